"""Timelines for a terminal: one line a node and build beside another, time from left to right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from farm.display import duration
from farm.schedule.simulate import Span
from farm.timeline import Timeline

STYLES: Final = ("black on cyan", "black on green", "black on yellow", "black on magenta")
LOST: Final = "white on red"


def gantt(timeline: Timeline, columns: int) -> RenderableType:
    """Return a chart ``columns`` characters wide, with its makespan and the ratio to the least time."""
    rows = timeline.timetable.rows
    names = max((len(name) for name in rows), default=0)
    width = max(20, columns - names - 2)
    whole = timeline.timetable.makespan_s or 1.0
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, width=width)
    for node, spans in rows.items():
        for number, line in enumerate(lanes(spans)):
            grid.add_row(node if number == 0 else "", _bar(line, width / whole))
    half, end = duration(whole / 2), duration(whole)
    grid.add_row("", Text(f"0:00{half:^{max(1, width - 4 - len(end))}}{end}", "dim"))
    return Group(grid, Text(summary(timeline)))


def summary(timeline: Timeline) -> str:
    """Return in a line how long it takes, and how that compares with the least time possible."""
    text = f"{duration(timeline.timetable.makespan_s)} in all, placed by {timeline.policy}"
    if timeline.ratio is not None:
        text += f"; at least {duration(timeline.bound_s)} on these nodes: {timeline.ratio:.2f} times that"
    if timeline.timetable.unplaced:
        text += f"; no node can take {', '.join(timeline.timetable.unplaced)}"
    return text


def spans_rows(timeline: Timeline) -> Iterable[list[str]]:
    """Return each node's timetable as rows: node, job, width, start, end."""
    for node, spans in timeline.timetable.rows.items():
        for number, span in enumerate(spans):
            label = f"{node}\n{timeline.cores.get(node, '?')} cores" if number == 0 else ""
            width = f"-j{span.widths}"
            end = duration(span.end_s) + (" lost" if span.lost else "")
            yield [label, span.job_id, width, duration(span.start_s), end]


def timeline_json(timeline: Timeline) -> dict[str, object]:
    """Return a timeline for programs."""
    return {
        "policy": timeline.policy,
        "makespan_s": round(timeline.timetable.makespan_s, 1),
        "bound_s": None if timeline.bound_s is None else round(timeline.bound_s, 1),
        "ratio": None if timeline.ratio is None else round(timeline.ratio, 3),
        "unplaced": list(timeline.timetable.unplaced),
        "spans": [
            {
                "node": span.node,
                "job": span.job_id,
                "width": span.widths.first,
                "widened": [
                    {"after_s": round(after_s, 1), "width": width} for after_s, width in span.widths.changes
                ],
                "start_s": round(span.start_s, 1),
                "end_s": round(span.end_s, 1),
                "lost": span.lost,
            }
            for span in timeline.timetable.spans
        ],
    }


def lanes(spans: Sequence[Span]) -> list[list[Span]]:
    """Return the spans in as few lines as show those that ran at the same time beside each other."""
    lines: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: (span.start_s, span.job_id)):
        free = next((line for line in lines if line[-1].end_s <= span.start_s), None)
        if free is None:
            lines.append([span])
        else:
            free.append(span)
    return lines


def _bar(line: Sequence[Span], scale: float) -> Text:
    bar = Text()
    for number, span in enumerate(line):
        start, end = round(span.start_s * scale), round(span.end_s * scale)
        start = max(start, len(bar))
        bar.append(" " * (start - len(bar)))
        length = max(1, end - start)
        bar.append(
            f" {span.job_id}"[:length].ljust(length), LOST if span.lost else STYLES[number % len(STYLES)]
        )
    return bar
