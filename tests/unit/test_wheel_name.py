"""A wheel's file name: what it says, and what is none (PEP 427)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from farm.errors import WheelError
from farm.wheel_name import build_order, next_build_tag, parse_name, rebuild_hint

TAGS = "cp312-cp312-manylinux_2_28_riscv64.manylinux_2_31_riscv64"


def test_what_a_name_says() -> None:
    name = parse_name(f"Typing_Extensions-4.0-01a-{TAGS}.whl")
    assert (name.project, name.version, name.build) == ("typing-extensions", Version("4.0"), "1a")
    assert name.build_number == 1
    assert name.is_riscv64
    assert f"{name.python_abi}-{name.platforms}" == TAGS


def test_two_spellings_of_a_name_are_one_wheel() -> None:
    one = parse_name("demo-1.0-1A-py2.py3-none-any.whl")
    other = parse_name("Demo-1.0.0-1a-py3.py2-NONE-any.whl")
    assert one.identity == other.identity
    assert one.identity != parse_name("demo-1.0-2-py2.py3-none-any.whl").identity


@pytest.mark.parametrize(
    "filename",
    [
        "demo-1.0.tar.gz",
        "demo-1.0-py3-none.whl",
        "demo-1.0-b1-py3-none-any.whl",
        "demo-one-py3-none-any.whl",
        "_demo-1.0-py3-none-any.whl",
        "démo-1.0-py3-none-any.whl",
        "demo-1.0-py3-none-a<b.whl",
        "../demo-1.0-py3-none-any.whl",
        "demo-1.0-py3-none-any.whl\n",
        "",
    ],
)
def test_what_is_no_name_is_refused_with_what_one_is(filename: str) -> None:
    with pytest.raises(WheelError) as refused:
        parse_name(filename)
    assert refused.value.message.startswith(filename)
    assert refused.value.hint


@given(st.lists(st.integers(0, 10**6)), st.text("abc", max_size=2))
def test_another_build_is_above_all_of_its_version_and_below_none(numbers: list[int], suffix: str) -> None:
    name = parse_name(f"demo-1.0-{TAGS}.whl")
    present = [parse_name(f"demo-1.0-{number}{suffix}-{TAGS}.whl") for number in numbers]
    present.append(parse_name(f"demo-2.0-{10**7}-{TAGS}.whl"))
    free = next_build_tag(name, present)
    assert all(build_order(str(free)) > build_order(other.build) for other in present[:-1])
    assert free == max(numbers, default=0) + 1
    assert rebuild_hint(name, present).endswith(f": demo-1.0-{free}-{TAGS}.whl")
