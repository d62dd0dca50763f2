"""Tables on a narrow terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from farm.display import job_row, table
from farm.schedule.widths import Widths
from farm.store import Failure, Job, State
from tests.unit.plankit import spec


@pytest.mark.parametrize("width", [80, 120])
def test_names_can_be_copied_from_a_narrow_terminal(width: int) -> None:
    asked = spec("charset-normalizer")
    jobs = [
        Job(
            *(asked.job_id, asked, state, 1, "vboard-sg2044", Widths(4), failure, "an error " * 20),
            *(0.0, 0.0, 700.0, None, None, False),
        )
        for state, failure in ((State.PUBLISHED, None), (State.FAILED, Failure.BUILD))
    ]
    console = Console(file=io.StringIO(), width=width)
    console.print(table("job", "state", "node", "time", "remark", rows=map(job_row, jobs)))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines if "charset" in line] == [asked.job_id] * 2
    assert all(f" {word} " in "\n".join(lines) for word in ("published", "failed", "vboard-sg2044"))


@pytest.mark.parametrize("width", [80, 120])
def test_a_long_name_leaves_room_for_what_stands_beside_it(width: int) -> None:
    asked = spec("opentelemetry-instrumentation-system-metrics-native-collector")
    job = Job(
        *(asked.job_id, asked, State.FAILED, 1, "vboard-sg2044", Widths(4), Failure.BUILD, "an error"),
        *(0.0, 0.0, 700.0, None, None, False),
    )
    console = Console(file=io.StringIO(), width=width)
    console.print(table("job", "state", "node", "time", "remark", rows=[job_row(job)]))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "".join(line.split()[0] for line in lines[1:] if line[0] != " ") == asked.job_id
    assert all(word in "\n".join(lines) for word in ("failed", "(build)", "vboard-sg2044", "11:40"))
