"""When a node may have new jobs, and how long its builds are waited for. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from farm.executor import Vitals
from farm.nodes import MIN_DISK_BYTES, Facts

MIN_MEMORY_BYTES: Final = 256 << 20
MAX_SKEW_S: Final = 300.0
MAX_LOAD_PER_CORE: Final = 8.0
# Small machines: a virtual board shows the load of all that runs on its host.
MAX_LOAD: Final = 64.0
FIRST_HOLD_S: Final = {"failing": 30.0, "lying": 600.0}
PROBE_S: Final = 5.0
LONGEST_HOLD_S: Final = 3600.0


class Trouble(StrEnum):
    """Why a node is in quarantine."""

    UNREACHABLE = "unreachable"
    UNFIT = "unfit"  # what it is does not fit: ISA, compilers, its runner's version, its identity
    SICK = "sick"  # full, out of memory, overloaded, with a wrong clock
    FAILING = "failing"  # several builds in a row failed fast there (F21)
    LYING = "lying"  # what it said was not so


def sick(facts: Facts, vitals: Vitals, now: float) -> str | None:
    """Return why a node must not be given a job just now, or None; ``now`` is the controller's time."""
    skew = vitals.clock - now
    if vitals.disk_free_bytes < MIN_DISK_BYTES:
        return f"only {vitals.disk_free_bytes >> 20} MiB of disk are free; make room"
    if vitals.memory_available_bytes < MIN_MEMORY_BYTES:
        return f"only {vitals.memory_available_bytes >> 20} MiB of memory are available"
    if abs(skew) > MAX_SKEW_S:
        direction = "ahead of" if skew > 0 else "behind"
        return f"its clock is {abs(skew):.0f} s {direction} the controller's; set it"
    if vitals.load > max(MAX_LOAD, MAX_LOAD_PER_CORE * facts.cores):
        return f"its load is {vitals.load:.0f} on {facts.cores} cores: something else runs there"
    return None


def changed(before: Vitals, now: Vitals) -> bool:
    """Return whether a node is no longer what it was when it was asked: it must be asked again (F18, F20)."""
    return (before.machine_id, before.boot_id, before.toolchain) != (
        now.machine_id,
        now.boot_id,
        now.toolchain,
    )


def hold_s(trouble: Trouble, times: int) -> float:
    """Return how long to wait before the next probe, in seconds; ``times`` counts earlier ones in a row."""
    return min(LONGEST_HOLD_S, FIRST_HOLD_S.get(trouble, PROBE_S) * 2.0 ** min(times, 20))


def waited_for_s(elapsed_s: float, shortest_s: float) -> float:
    """Return how long an unreachable node's build is waited for before it is begun elsewhere, in seconds.

    The longer it has run, the more is lost by beginning anew; half of that is the price worth paying.
    """
    return min(LONGEST_HOLD_S, max(shortest_s, elapsed_s / 2))
