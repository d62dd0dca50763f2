"""When a node may have jobs, and how long it is waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.dispatch.health import LONGEST_HOLD_S, Trouble, changed, hold_s, sick, waited_for_s
from farm.executor import Vitals
from tests.unit.test_nodes import FACTS

NOW = 1_800_000_000.0
WELL = Vitals(
    clock=NOW + 2,
    load=3.0,
    disk_free_bytes=50 << 30,
    memory_available_bytes=8 << 30,
    machine_id="a" * 32,
    boot_id="boot",
    toolchain="gcc",
)


def test_a_node_that_is_well_may_have_jobs() -> None:
    assert sick(FACTS, WELL, NOW) is None
    assert sick(replace(FACTS, cores=2), replace(WELL, load=40.0), NOW) is None, "it is its host's load"


@pytest.mark.parametrize(
    ("vitals", "why"),
    [
        (replace(WELL, disk_free_bytes=100 << 20), "only 100 MiB of disk are free"),
        (replace(WELL, memory_available_bytes=100 << 20), "only 100 MiB of memory"),
        (replace(WELL, clock=NOW - 3600), "its clock is 3600 s behind"),
        (replace(WELL, clock=NOW + 86400), "its clock is 86400 s ahead of"),
        (replace(WELL, load=100.0), "its load is 100 on 8 cores"),
    ],
)
def test_f21_what_is_wrong_is_said(vitals: Vitals, why: str) -> None:
    assert why in (sick(FACTS, vitals, NOW) or "")


@pytest.mark.parametrize(
    "other",
    [replace(WELL, machine_id="other"), replace(WELL, boot_id="other"), replace(WELL, toolchain="other")],
)
def test_f18_f20_another_machine_start_or_toolchain_is_asked_again(other: Vitals) -> None:
    assert changed(WELL, other)
    assert not changed(WELL, replace(WELL, clock=0.0, load=9.0, disk_free_bytes=0))


@given(st.sampled_from(Trouble), st.integers(0, 1000))
def test_probes_become_rarer_and_never_end(trouble: Trouble, times: int) -> None:
    assert 0 < hold_s(trouble, times) <= hold_s(trouble, times + 1) <= LONGEST_HOLD_S


def test_a_liar_waits_longest() -> None:
    assert hold_s(Trouble.LYING, 0) > hold_s(Trouble.FAILING, 0) > hold_s(Trouble.SICK, 0)


@given(st.floats(0, 1e6), st.floats(0, 3600))
def test_the_longer_a_build_has_run_the_longer_its_node_is_waited_for(elapsed: float, least: float) -> None:
    waited = waited_for_s(elapsed, least)
    assert least <= waited <= LONGEST_HOLD_S
    assert waited <= waited_for_s(elapsed + 60, least)
    if 2 * least <= elapsed <= 2 * LONGEST_HOLD_S:
        assert waited == elapsed / 2
