"""How runs and listings look: rich tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from farm.paths import Paths
from farm.store import Failure, Job, State

TAIL_LINES: Final = 15
STYLES: Final = {
    State.QUEUED: "dim",
    State.LEASED: "cyan",
    State.RUNNING: "cyan",
    State.BUILT: "blue",
    State.STAGED: "blue",
    State.VERIFIED: "blue",
    State.PUBLISHED: "green",
    State.FAILED: "bold red",
}
Cell = str | Text


def duration(seconds: float | None) -> str:
    """Return ``1:02:03``, ``2:03`` or an empty string."""
    if seconds is None:
        return ""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


_COPIED: Final = {"job", "node"}
"""Columns of what a reader copies into the next command: their lines stay whole as long as there is room."""
_LONGEST: Final = 40
"""Characters of such a line. The rest of a longer name stands below it, or nothing else had room; commands
take a name's beginning, too."""
_WIDE: Final = 160
"""Columns from which a name is in one line however long it is."""


def table(*columns: str, rows: Iterable[Iterable[Cell]]) -> Table:
    """Return a plain table."""
    result = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        least = max(map(len, State)) if column == "state" else None  # its second word may stand below
        result.add_column(column, overflow="fold", no_wrap=column in _COPIED, min_width=least)
    for row in rows:
        cells = zip(columns, row, strict=True)
        result.add_row(*(_Name(str(cell)) if column in _COPIED else cell for column, cell in cells))
    return result


@dataclass(frozen=True, slots=True)
class _Name:
    """A cell that rich asks how wide it is, and draws."""

    text: str

    def __rich_measure__(self, console: Console, _options: ConsoleOptions) -> Measurement:
        whole = max(map(len, self.text.split("\n")))
        width = whole if console.width >= _WIDE else min(whole, _LONGEST)
        return Measurement(width, width)

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        yield Text(self.text, overflow="fold", no_wrap=False)


def job_row(job: Job, last: str = "") -> list[Cell]:
    """Return a job's cells: name, state, node, time, remark."""
    state = f"{job.state} ({job.failure})" if job.failure else str(job.state)
    remark = job.message or last or job.wheel or ""
    return [
        job.job_id,
        Text(state, STYLES[job.state]),
        job.node or "",
        duration(job.duration_s),
        Text(remark, "dim", no_wrap=True, overflow="ellipsis"),
    ]


def tail(job: Job, paths: Paths, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a job's log."""
    path = paths.log(job.attempt_id)
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]


class Lines:
    """Reports a run as lines, one for each change; for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, tuple[State, int]] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def job(self, job: Job) -> None:
        """See Reporter."""
        if self._shown.get(job.job_id) != (job.state, job.attempt):
            self._shown[job.job_id] = (job.state, job.attempt)
            where = f" on {job.node}" if job.node else ""
            failure = f" ({job.failure})" if job.failure else ""
            remark = f": {job.message}" if job.message else ""
            self._print(f"{job.job_id} {job.state}{failure}{where}{remark}")

    def log(self, job: Job, text: str) -> None:
        """See Reporter."""

    def note(self, text: str) -> None:
        """See Reporter."""
        self._print(text)

    def tick(self) -> None:
        """See Reporter."""

    def _print(self, text: str) -> None:
        elapsed = duration(time.monotonic() - self._began)
        self._console.print(f"[{elapsed:>7}] {text}", markup=False, highlight=False, soft_wrap=True)


class Board:
    """Reports a run as a table that is redrawn in place; for terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._jobs: dict[str, Job] = {}
        self._last: dict[str, str] = {}
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def job(self, job: Job) -> None:
        """See Reporter."""
        self._jobs[job.job_id] = job

    def log(self, job: Job, text: str) -> None:
        """See Reporter."""
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            self._last[job.job_id] = lines[-1]

    def note(self, text: str) -> None:
        """See Reporter."""
        self._console.print(text, markup=False, highlight=False)

    def tick(self) -> None:
        """See Reporter."""

    def _render(self) -> Group:
        # Copies: the table is drawn by rich's own thread.
        jobs, last = list(self._jobs.values()), dict(self._last)
        ended = sum(job.state.ended for job in jobs)
        rows = [job_row(job, last.get(job.job_id, "")) for job in jobs]
        return Group(
            table("job", "state", "node", "time", "last line", rows=rows),
            Text(f"{ended} of {len(jobs)} done", "bold"),
        )


def show_failures(console: Console, jobs: Iterable[Job], paths: Paths) -> None:
    """Show, for each failed job, why, the last lines of its log and where the whole log is."""
    for job in jobs:
        if job.failure is None:
            continue
        console.rule(Text(f"{job.job_id} failed ({job.failure})", "bold red"), align="left")
        console.print(job.message, markup=False, highlight=False, soft_wrap=True)
        if job.failure is Failure.NODE and not job.attempt:
            continue
        for line in tail(job, paths):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        console.print(
            f"whole log: {paths.log(job.attempt_id)}", markup=False, highlight=False, soft_wrap=True
        )
