"""What is new since the last try, and which wheels are tried."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import InputError
from farm.index.tree import IndexTree
from farm.tryout import Fate, Pip, Tried, compared, load, newest_wheels, save
from farm.tryout.report import remembered

NOW = 1_800_000_000.0


def tried(project: str, fate: Fate, asked: str = "newest", pip: str = "26.3") -> Tried:
    return Tried(project, "1.0", "cp313", asked, pip, fate, "because")


def test_the_first_try() -> None:
    report = compared(None, [tried("a", Fate.WELL), tried("b", Fate.NOT_INSTALLED)], NOW)
    assert (report.tried_at, report.new, report.mended) == ("2027-01-15T08:00:00Z", ("b newest",), ())
    assert [it.project for it in report.broken] == ["b"]


def test_what_is_new_and_what_is_mended() -> None:
    before = compared(
        None, [tried("a", Fate.WELL), tried("b", Fate.NOT_IMPORTED), tried("c", Fate.WELL)], NOW
    )
    now = [tried("a", Fate.NOT_IMPORTED), tried("b", Fate.WELL), tried("c", Fate.UNTRIED)]
    after = compared(before, now, NOW)
    assert (after.new, after.mended) == (("a newest",), ("b newest",))
    assert compared(remembered(before, after, whole=True), now, NOW).new == ()


def test_another_newest_pip_is_still_the_newest() -> None:
    before = compared(None, [tried("a", Fate.NOT_INSTALLED)], NOW)
    assert compared(before, [tried("a", Fate.NOT_INSTALLED, pip="27.0")], NOW).new == ()


def test_what_could_not_be_tried_stays_broken() -> None:
    before = compared(None, [tried("a", Fate.NOT_INSTALLED)], NOW)
    night = compared(before, [tried("a", Fate.UNTRIED)], NOW)
    kept = remembered(before, night, whole=True)
    assert [it.fate for it in kept.results] == [Fate.NOT_INSTALLED]
    assert compared(kept, [tried("a", Fate.NOT_INSTALLED)], NOW).new == ()
    assert compared(kept, [tried("a", Fate.WELL)], NOW).mended == ("a newest",)


def test_a_part_of_the_index_does_not_make_the_rest_forgotten() -> None:
    before = compared(None, [tried("a", Fate.NOT_INSTALLED), tried("b", Fate.WELL)], NOW)
    part = compared(before, [tried("b", Fate.WELL)], NOW)
    assert [it.project for it in remembered(before, part, whole=False).results] == ["a", "b"]
    assert [it.project for it in remembered(before, part, whole=True).results] == ["b"]


results = st.lists(
    st.builds(tried, st.sampled_from("abc"), st.sampled_from(Fate), st.sampled_from(["newest", "24.1"])),
    max_size=6,
    unique_by=lambda it: (it.project, it.asked),
)


@given(results, results)
def test_news_are_what_changed(first: list[Tried], second: list[Tried]) -> None:
    before = compared(None, first, NOW)
    after = compared(before, second, NOW)
    assert set(after.new) <= {f"{it.project} {it.asked}" for it in after.broken}
    assert not set(after.new) & {f"{it.project} {it.asked}" for it in before.broken}
    assert set(after.mended) <= {f"{it.project} {it.asked}" for it in before.broken}
    assert compared(after, second, NOW).new == ()


def test_a_report_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "tried.json"
    assert load(path) is None
    report = compared(None, [tried("a", Fate.NOT_INSTALLED), tried("b", Fate.WELL)], NOW)
    save(path, None, report, whole=True)
    assert load(path) == report


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tried_at": 1}', '{"results": [{"fate": "odd"}]}'])
def test_a_report_that_makes_no_sense(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tried.json"
    path.write_text(content)
    with pytest.raises(InputError, match="can't be read") as caught:
        load(path)
    assert "remove it" in caught.value.hint


def test_the_newest_version_is_tried(tmp_path: Path) -> None:
    tree = IndexTree(tmp_path)
    for name in ("demo-1.9", "demo-1.10", "demo-1.10-2", "other-1.0"):
        path = tree.packages / name.split("-")[0] / f"{name}-cp313-cp313-manylinux_2_39_riscv64.whl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = newest_wheels(tree)
    assert list(found) == ["demo", "other"]
    assert [
        wheel.name.removesuffix("-cp313-cp313-manylinux_2_39_riscv64.whl") for wheel in found["demo"]
    ] == [
        "demo-1.10-2",
        "demo-1.10",
    ]
    assert list(newest_wheels(tree, ["Other"])) == ["other"]
    with pytest.raises(InputError, match="nothing: not hosted"):
        newest_wheels(tree, ["nothing"])


def test_how_pip_is_called() -> None:
    command = Pip("24.1", "24.1", "/pip").command("demo==1.0", "http://192.0.2.1:8080/simple/")
    assert command[1] == "/pip"
    assert command[-3:] == ["--trusted-host", "192.0.2.1", "demo==1.0"]
    assert "--no-cache-dir" in command
    assert "--trusted-host" not in Pip("24.1", "24.1", "/pip").command("demo", "https://index.test/simple/")
