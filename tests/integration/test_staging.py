"""From built to published with a clean room between: what it says, what it is given, who waits for whom."""

from __future__ import annotations

import signal

import pytest

from farm.cleanroom import ILLEGAL, RoomError
from farm.errors import ExitCode
from farm.store import Failure, State
from farm.verify import Gate, Verdict
from tests.integration.farmkit import Farm
from tests.integration.nodekit import until
from tests.integration.roomkit import Room

pytestmark = pytest.mark.integration
DIED = Verdict(Gate.EXECUTION, False, "one/_core.so", "SIGILL in one/_core.so", verdict=ILLEGAL)
UNWELL = RoomError("no clean room in /nowhere", hint="make it")
FAILING = "def build_wheel(*_):\n    raise SystemExit('error: no compiler')\n"


@pytest.fixture
def room(farm: Farm) -> Room:
    room = Room(farm.directory)
    farm.prove = room
    return room


def projects(farm: Farm) -> list[str]:
    return [name.partition("-")[0] for name in farm.published]


def test_what_can_not_be_proved_now_is_proved_by_the_next_dispatch(farm: Farm, room: Room) -> None:
    for name, needs in (("one", []), ("two", []), ("upper", ["one"])):
        farm.queue(name, farm.gated(name, *needs))
        farm.open(name)
    room.says = {"one": UNWELL}
    dispatcher = farm.run()
    assert (farm.state("one"), farm.state("upper")) == (State.STAGED, State.STAGED)
    assert projects(farm) == ["two"]
    one, upper = dispatcher.errors
    assert (one.message, one.exit_code) == (UNWELL.message, ExitCode.NODE)
    assert f"{farm.job('upper').job_id} waits for {farm.job('one').job_id}" in upper.message
    assert f"{farm.job('one').job_id} not proved: {UNWELL.message}" in farm.recorder.notes
    farm.prove = well = Room(farm.directory)
    assert not farm.run().errors
    assert sorted(well.tried) == ["one", "upper"]
    assert {farm.job(name).attempt for name in ("one", "upper")} == {1}
    assert projects(farm) == ["two", "one", "upper"]


@pytest.mark.parametrize(
    ("verdict", "failure"),
    [
        (Verdict(Gate.EXECUTION, False, "one.whl", "1 failed, 2 passed"), Failure.TEST),
        (Verdict(Gate.IMPORT, False, "one.whl", "import one: ImportError"), Failure.TEST),
        (DIED, Failure.ISA),
    ],
)
def test_what_fails_in_the_clean_room_is_not_published(
    farm: Farm, room: Room, verdict: Verdict, failure: Failure
) -> None:
    farm.queue("one", farm.gated("one"))
    farm.open("one")
    room.says = {"one": verdict}
    farm.run()
    job = farm.job("one")
    assert (job.state, job.failure) == (State.FAILED, failure)
    assert verdict.evidence in job.message
    assert farm.published == []


def test_a_proof_waits_for_what_is_still_to_be_built(farm: Farm, room: Room) -> None:
    farm.queue(
        "upper", farm.gated("upper", "base>=1; platform_machine == 'riscv64'", "other; os_name == 'nt'")
    )
    farm.queue("base", farm.gated("base"))
    farm.open("upper")
    with farm.running():
        until(lambda: farm.state("upper") is State.STAGED, "the one to be staged")
        waits = f"{farm.job('upper').job_id} is staged and waits for {farm.job('base').job_id}"
        until(lambda: waits in farm.recorder.notes, "somebody to say for whom it waits")
        assert not room.tried
    assert projects(farm) == ["base", "upper"]
    assert room.tried == ["base", "upper"]


def test_what_was_proved_and_not_published_lies_beside(farm: Farm, room: Room) -> None:
    # The index does not take base: the run ends with both unpublished, upper having waited for it.
    farm.index = True
    for name, needs in (("base", []), ("upper", ["base"])):
        farm.queue(name, farm.gated(name, *needs))
        farm.open(name)
    packages = farm.paths.tree / "packages" / "base"
    packages.mkdir(parents=True)
    taken = packages / farm.wheel("base").name
    taken.write_bytes(b"other bytes")
    farm.run()
    assert room.beside["upper"] == ["base"]
    assert (farm.state("base"), farm.state("upper")) == (State.VERIFIED, State.VERIFIED)
    taken.unlink()
    farm.run()
    assert room.tried == ["base", "upper"], "what was proved is not proved again"
    assert projects(farm) == ["base", "upper"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_needs_a_failed_job_fails_with_it_unless_upstream_has_it(
    farm: Farm, room: Room, elsewhere: bool
) -> None:
    farm.queue("top", farm.gated("top", "upper"))
    farm.queue("upper", farm.gated("upper", "base"))
    farm.queue("base", FAILING)
    farm.open("top", "upper")
    room.elsewhere = {"base": []} if elsewhere else {}
    farm.run()
    base, upper, top = (farm.job(name) for name in ("base", "upper", "top"))
    assert base.failure is Failure.BUILD
    if elsewhere:
        assert projects(farm) == ["upper", "top"]
        return
    assert (upper.failure, top.failure) == (Failure.DEPENDENCY, Failure.DEPENDENCY)
    assert upper.message == f"needs {base.job_id}, which failed (build): {base.message}"
    assert top.message == f"needs {upper.job_id}, which failed (dependency): {upper.message}"
    assert farm.published == []


def test_what_needs_a_wheel_that_failed_its_proof_is_not_blamed_for_it(farm: Farm, room: Room) -> None:
    for name, needs in (("base", []), ("upper", ["base"])):
        farm.queue(name, farm.gated(name, *needs))
        farm.open(name)
    room.says = {"base": Verdict(Gate.IMPORT, False, "base.whl", "import base: boom")}
    farm.run()
    assert farm.job("base").failure is Failure.TEST
    assert farm.job("upper").failure is Failure.DEPENDENCY
    assert "which failed (test)" in farm.job("upper").message


def test_those_that_need_each_other_are_proved_and_published_together(farm: Farm, room: Room) -> None:
    for name, needs in (("one", ["two"]), ("two", ["one"])):
        farm.queue(name, farm.gated(name, *needs))
        farm.open(name)
    farm.run()
    assert room.beside == {"one": ["two"], "two": ["one"]}
    assert sorted(projects(farm)) == ["one", "two"]


def test_of_those_one_that_fails_takes_the_other_with_it(farm: Farm, room: Room) -> None:
    for name, needs in (("one", ["two"]), ("two", ["one"])):
        farm.queue(name, farm.gated(name, *needs))
        farm.open(name)
    room.says = {"two": Verdict(Gate.IMPORT, False, "two.whl", "import two: boom")}
    room.hold("two")
    with farm.running():
        until(lambda: farm.state("one") is State.VERIFIED, "the good one to be proved with the bad one")
        room.let_go("two")
    one, two = farm.job("one"), farm.job("two")
    assert (one.failure, two.failure) == (Failure.DEPENDENCY, Failure.TEST)
    assert f"needs {two.job_id}, which failed (test)" in one.message
    assert farm.published == []


def test_a_need_by_way_of_another_project_is_found_and_waited_for(farm: Farm, room: Room) -> None:
    farm.queue("upper", farm.gated("upper", "middle"))
    farm.queue("base", farm.gated("base"))
    farm.open("upper")
    room.elsewhere = {"middle": ["base"]}
    with farm.running():
        until(lambda: any("waits for" in note for note in farm.recorder.notes), "it to wait")
    assert room.tried == ["upper", "base", "upper"]
    assert projects(farm) == ["base", "upper"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_is_built_after_it_is_not_waited_for(farm: Farm, room: Room, elsewhere: bool) -> None:
    farm.queue("upper", farm.gated("upper", "base"))
    pyproject = '[build-system]\nrequires = ["upper"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    farm.queue("base", FAILING, files={"pyproject.toml": pyproject.encode()})
    farm.open("upper", "base")
    room.elsewhere = {"base": []} if elsewhere else {}
    farm.run()
    upper, base = farm.job("upper"), farm.job("base")
    if elsewhere:
        assert upper.state is State.PUBLISHED
        assert base.attempt == 1
    else:
        assert upper.failure is base.failure is Failure.DEPENDENCY
        assert upper.message == f"needs {base.job_id}, which can only be built after it"
        assert base.attempt == 0


def test_a_killed_controller_leaves_all_that_is_staged_to_the_next_one(farm: Farm, room: Room) -> None:
    farm.queue("upper", farm.gated("upper", "base"))
    farm.queue("base", farm.gated("base"))
    farm.open("upper", "base")
    room.hold("base")
    controller = farm.controller()
    try:
        until(lambda: room.began("base"), "the proof to begin")
        until(lambda: farm.state("upper") is State.STAGED, "the other one to be staged")
    finally:
        controller.send_signal(signal.SIGKILL)
        controller.wait()
    room.let_go("base")
    farm.run()
    assert room.tried == ["base", "upper"]
    assert projects(farm) == ["base", "upper"]
    assert {farm.job(name).attempt for name in ("base", "upper")} == {1}


def test_a_staged_wheel_that_was_deleted_is_built_again(farm: Farm, room: Room) -> None:
    farm.queue("one", farm.gated("one"))
    farm.open("one")
    room.says = {"one": UNWELL}
    farm.run()
    job = farm.job("one")
    assert job.wheel is not None
    (farm.paths.wheels(job.attempt_id) / job.wheel).unlink()
    room.says = {}
    farm.run()
    assert (farm.state("one"), farm.job("one").attempt) == (State.PUBLISHED, 2)
