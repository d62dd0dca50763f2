"""From built to published with a clean room between: what it says, what it is given, who waits for whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from farm.cleanroom import ILLEGAL, RoomError
from farm.errors import ExitCode
from farm.store import Failure, Job, State
from farm.verify import Gate, Report, Verdict
from tests.integration.farmkit import Farm

pytestmark = pytest.mark.integration
DIED = Verdict(Gate.EXECUTION, False, "one/_core.so", "SIGILL in one/_core.so", verdict=ILLEGAL)
UNWELL = RoomError("no clean room in /nowhere", hint="make it")


@dataclass
class Room:
    """A clean room that says of each project what a test wants, and remembers what it was given."""

    says: Mapping[str, Verdict | RoomError] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    beside: dict[str, list[str]] = field(default_factory=dict)

    def __call__(self, job: Job, wheel: Path, report: Report, beside: Iterable[Path]) -> Report:
        project = job.spec.project
        self.tried.append(project)
        self.beside[project] = sorted(path.name.partition("-")[0] for path in beside)
        passed = Verdict(Gate.IMPORT, True, wheel.name, "imported")
        answer = self.says.get(project, passed)
        if isinstance(answer, RoomError):
            raise answer
        return replace(report, verdicts=(*report.verdicts, answer))


def test_what_can_not_be_proved_now_is_proved_by_the_next_dispatch(farm: Farm) -> None:
    farm.queue("one", farm.gated("one"))
    farm.queue("two", farm.gated("two"))
    farm.open("one", "two")
    farm.prove = Room({"one": UNWELL})
    dispatcher = farm.run()
    assert not farm.state("one").ended
    assert farm.state("two") is State.PUBLISHED
    (error,) = dispatcher.errors
    assert (error.message, error.exit_code) == (UNWELL.message, ExitCode.NODE)
    assert f"{farm.job('one').job_id} not proved: {UNWELL.message}" in farm.recorder.notes
    farm.prove = well = Room()
    assert not farm.run().errors
    assert (well.tried, well.beside) == (["one"], {"one": []})
    assert (farm.state("one"), farm.job("one").attempt) == (State.PUBLISHED, 1)
    assert sorted(farm.published) == sorted(str(farm.job(name).wheel) for name in ("one", "two"))


@pytest.mark.parametrize(
    ("verdict", "failure"),
    [
        (Verdict(Gate.EXECUTION, False, "one.whl", "1 failed, 2 passed"), Failure.TEST),
        (Verdict(Gate.IMPORT, False, "one.whl", "import one: ImportError"), Failure.TEST),
        (DIED, Failure.ISA),
    ],
)
def test_what_fails_in_the_clean_room_is_not_published(
    farm: Farm, verdict: Verdict, failure: Failure
) -> None:
    farm.queue("one", farm.gated("one"))
    farm.open("one")
    farm.prove = Room({"one": verdict})
    farm.run()
    job = farm.job("one")
    assert (job.state, job.failure) == (State.FAILED, failure)
    assert verdict.evidence in job.message
    assert farm.published == []
