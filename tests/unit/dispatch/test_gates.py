"""What the dispatcher tells the gates of a job: its promise, its sdist, what its recipe allows."""

from __future__ import annotations

import io
import queue
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from farm.cleanroom import ILLEGAL, RoomError
from farm.dispatch.gates import Gates, Group, Proof, publish_all, verified
from farm.dispatch.ledger import Ledger
from farm.errors import PublishError
from farm.paths import Paths
from farm.recipe import Recipe
from farm.schedule.widths import Widths
from farm.store import Failure, Job, State, Store
from farm.verify import Gate, Report, Verdict
from tests.unit.plankit import spec
from tests.unit.verify.wheelkit import MODULE, NATIVE, make_elf, write_wheel

SIGILL = Verdict(Gate.IMPORT, False, "demo/x.so", "SIGILL", verdict=ILLEGAL)
UNTESTED = Verdict(Gate.EXECUTION, False, "demo.whl", "1 failed")
ALIEN = Verdict(Gate.CONTENT, False, "demo/x.obj", "COFF")
LICENCE, PLATFORM, CONTENT = {Gate.LICENCE}, {Gate.PLATFORM}, {Gate.CONTENT}


def job(recipe: Recipe) -> Job:
    asked = replace(spec("demo"), project="demo", version="1.0", python="cp313", recipe=recipe)
    return Job(
        "demo",
        asked,
        State.BUILT,
        1,
        "f3",
        Widths(4),
        None,
        "",
        0.0,
        None,
        None,
        None,
        None,
        cancelling=False,
    )


def store_sdist(paths: Paths, asked: Job) -> None:
    sdist = paths.sdist(asked.spec.sdist_sha256, asked.spec.sdist_filename)
    sdist.parent.mkdir(parents=True)
    with tarfile.open(sdist, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("demo-1.0/LICENSE"), io.BytesIO())


def failing(asked: Job, wheel: Path, paths: Paths) -> set[Gate]:
    return {verdict.gate for verdict in verified(asked, wheel, paths).failures}


@pytest.mark.parametrize(("reason", "gates"), [("", LICENCE), ("it is in the README", set())])
def test_the_sdists_licence_is_asked_for(tmp_path: Path, reason: str, gates: set[Gate]) -> None:
    asked, paths = job(Recipe(no_licence=reason)), Paths(tmp_path)
    store_sdist(paths, asked)
    assert failing(asked, write_wheel(tmp_path), paths) == gates


def test_without_its_sdist_a_job_is_verified_all_the_same(tmp_path: Path) -> None:
    assert failing(job(Recipe()), write_wheel(tmp_path), Paths(tmp_path)) == set()


@pytest.mark.parametrize(("keep", "gates"), [({}, CONTENT), ({"demo/*.pyc": "its source is lost"}, set())])
def test_the_recipe_keeps_files(tmp_path: Path, keep: dict[str, str], gates: set[Gate]) -> None:
    wheel = write_wheel(tmp_path, files={MODULE: make_elf(), "demo/x.pyc": b""})
    assert failing(job(Recipe(keep_files=keep)), wheel, Paths(tmp_path)) == gates


@pytest.mark.parametrize(("libraries", "gates"), [({}, PLATFORM), ({"libnuma.so.1": "loaded late"}, set())])
def test_the_recipe_names_system_libraries(
    tmp_path: Path, libraries: dict[str, str], gates: set[Gate]
) -> None:
    paths = Paths(tmp_path)
    paths.debian.mkdir()
    (paths.debian / "trixie-libraries").write_text("libnuma.so.1\tlibnuma1\n")
    name = NATIVE.replace("manylinux_2_39", "linux")
    wheel = write_wheel(tmp_path, name, {MODULE: make_elf(needed=("libnuma.so.1",))})
    assert failing(job(Recipe(system_libraries=libraries)), wheel, paths) == gates


class Bench:
    """Gates with one job that is staged, and a clean room that answers as told."""

    def __init__(self, folder: Path, answer: Report | RoomError) -> None:
        self.answer, self.failures, self.notes = answer, list[Failure](), list[str]()
        self.store = Store(folder / "farm.sqlite")
        self.paths = Paths(folder)
        self.ledger = Ledger(self.store)
        asked = job(Recipe())
        self.job = self.store.enqueue(asked.spec)
        inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.gates = Gates(
            self.ledger,
            lambda _wheels: None,
            paths=self.paths,
            post=inbox.put,
            changed=lambda _job: None,
            fail=lambda _job, failure, _why: self.failures.append(failure),
            note=self.notes.append,
            after=lambda _job_id: frozenset(),
        )

    def judged(self) -> None:
        staged = replace(self.job, state=State.STAGED, wheel_sha256="0" * 64)
        self.ledger.jobs[staged.job_id] = staged
        answer = self.answer
        proof = answer if isinstance(answer, RoomError) else Proof(staged.attempt_id, answer, ())
        self.gates._proved(staged.job_id, proof)
        self.gates.close()


def report(*verdicts: Verdict) -> Report:
    return Report("demo.whl", "0" * 64, verdicts)


@pytest.mark.parametrize(
    ("verdicts", "failure"),
    [
        ([SIGILL], Failure.ISA),
        ([UNTESTED], Failure.TEST),
        ([UNTESTED, ALIEN], Failure.POLICY),
        ([SIGILL, ALIEN], Failure.ISA),
    ],
)
def test_what_execution_showed_has_a_class(tmp_path: Path, verdicts: list[Verdict], failure: Failure) -> None:
    bench = Bench(tmp_path, report(*verdicts))
    bench.judged()
    assert bench.failures == [failure]


def test_a_clean_room_that_is_not_well_fails_no_job(tmp_path: Path) -> None:
    """It is neither failed nor published, and the next dispatch proves it without building it again."""
    bench = Bench(tmp_path, RoomError("no clean room", hint="make it"))
    bench.judged()
    assert not bench.failures
    assert [error.message for error in bench.gates.refused.values()] == ["no clean room"]
    assert "not proved" in bench.notes[0]


def test_a_wheel_that_the_index_does_not_take_holds_up_those_that_need_it_and_nobody_else() -> None:
    taken: list[str] = []

    def publish(wheels: Sequence[Path]) -> None:
        names = [wheel.name for wheel in wheels]
        if "base" in names:
            raise PublishError("base: other bytes", hint="next build tag")
        taken.extend(names)

    groups = [
        Group({"base": Path("base")}, frozenset()),
        Group({"one": Path("one"), "two": Path("two")}, frozenset({"base"})),
        Group({"top": Path("top")}, frozenset({"two"})),
        Group({"other": Path("other")}, frozenset({"published-before"})),
    ]
    outcomes = publish_all(publish, groups)
    assert taken == ["other"]
    assert {name: error.message if error else "" for name, error in outcomes.items()} == {
        "base": "base: other bytes",
        "one": "it needs base, which was not published",
        "two": "it needs base, which was not published",
        "top": "it needs two, which was not published",
        "other": "",
    }
