"""Which build tag a job's wheel gets, by what is published (PEP 427, F06)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.build_tag import Published, after_collision, build_tag, published
from farm.plan import JobSpec
from farm.recipe import Recipe
from farm.wheel_name import parse_name
from tests.unit.plankit import spec
from tests.unit.provenance.kit import built, said, signed

JOB = spec()
OTHER = spec(recipe=Recipe(environment={"A": "1"}))
OTHER_PYTHON = spec(python="cp312")


def wheel(
    job: JobSpec | None = None, build: str = "", tags: str = "cp313-cp313", version: str = "1.0"
) -> Published:
    tag = f"-{build}" if build else ""
    name = parse_name(f"demo-{version}{tag}-{tags}-manylinux_2_39_riscv64.whl")
    return Published(name, job.python, job.digest) if job else Published(name)


@pytest.mark.parametrize(
    ("there", "tag"),
    [
        ([], ""),
        ([wheel(OTHER)], "1"),
        ([wheel()], "1"),  # came from elsewhere
        ([wheel(OTHER), wheel(spec(recipe=Recipe(debug=True)), "1")], "2"),
        ([wheel(OTHER, "7a")], "8"),
        ([wheel(OTHER, version="0.9")], ""),
        ([wheel(JOB)], ""),  # the same job, whose store was lost
        ([wheel(OTHER), wheel(JOB, "1"), wheel(spec(recipe=Recipe(debug=True)), "2")], "1"),
        ([wheel(OTHER_PYTHON, tags="cp312-cp312")], ""),
        ([wheel(OTHER_PYTHON, tags="cp311-abi3")], ""),  # mostly the same bytes: see after_collision
        ([wheel(OTHER), wheel(OTHER_PYTHON, "4", tags="cp311-abi3")], "5"),
        ([wheel(tags="cp314-cp314")], ""),
    ],
)
def test_the_next_free_tag(there: list[Published], tag: str) -> None:
    assert build_tag(JOB, there) == tag


@pytest.mark.parametrize(
    ("there", "tag"),
    [
        ([wheel(OTHER_PYTHON, tags="cp311-abi3")], "1"),
        ([wheel(OTHER), wheel(OTHER_PYTHON, "3", tags="cp311-abi3")], "4"),
        ([wheel(JOB)], None),
        ([], None),
    ],
)
def test_a_name_that_was_taken_meanwhile(there: list[Published], tag: str | None) -> None:
    assert after_collision(JOB, there) == tag


others = st.builds(
    wheel,
    st.sampled_from([None, OTHER, OTHER_PYTHON]),
    st.integers(0, 12).map(lambda number: str(number or "")),
    st.sampled_from(["cp313-cp313", "cp311-abi3", "cp312-cp312"]),
)


@given(st.lists(others, max_size=6), st.sampled_from(["", "2", "11"]))
def test_a_tag_is_never_one_that_a_wheel_of_this_python_has_nor_lowered(
    there: list[Published], before: str
) -> None:
    job = replace(JOB, build_tag=before)
    tag = build_tag(job, there)
    assert int(tag or 0) >= int(before or 0)
    assert tag not in {item.name.build for item in there if item.python == job.python}
    assert job.digest == JOB.digest, "it is no part of the job's identity"


def test_whose_a_wheel_is_stands_in_its_provenance(tmp_path: Path) -> None:
    folder = tmp_path / "packages/demo"
    folder.mkdir(parents=True)
    assert published(tmp_path, "demo") == ()
    ours, foreign, odd = (f"demo-1.0{b}-cp313-cp313-manylinux_2_39_riscv64.whl" for b in ("", "-1", "-2"))
    for name in (ours, foreign, odd, "not-a-wheel.whl"):
        (folder / name).touch()
    (folder / f"{ours}.provenance").write_bytes(signed(content=said(built(OTHER))))
    (folder / f"{odd}.provenance").write_bytes(b"{}")
    by_name = {item.name.filename: (item.python, item.digest) for item in published(tmp_path, "demo")}
    assert by_name == {ours: ("cp313", OTHER.digest), foreign: ("", ""), odd: ("", "")}
