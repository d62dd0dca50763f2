"""How wide a build was, and is: widths change while it runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from farm.schedule.model import Estimate


@dataclass(frozen=True, slots=True)
class Widths:
    """The width that a build began with, and what it was changed to since."""

    first: int
    changes: tuple[tuple[float, int], ...] = ()
    """Seconds after its begin, and the width from then on; in the order of time."""

    def __str__(self) -> str:
        """Return it for a person: ``8``, or ``8 to 24``."""
        return f"{self.first} to {self.now}" if self.changes else f"{self.first}"

    @property
    def now(self) -> int:
        """The last width."""
        return self.changes[-1][1] if self.changes else self.first

    def at(self, after_s: float) -> int:
        """Return the width that it had ``after_s`` seconds after its begin."""
        return next((width for at, width in reversed(self.changes) if at <= after_s), self.first)

    def widened(self, after_s: float, width: int) -> Widths:
        """Return them with one more change."""
        return Widths(self.first, (*self.changes, (after_s, width)))

    def mean(self, elapsed_s: float) -> float:
        """Return the mean width over time, of a build that has run for ``elapsed_s``."""
        if not self.changes or elapsed_s <= 0:
            return self.now
        return sum(span_s * width for span_s, width in self._spans(elapsed_s)) / elapsed_s

    def as_if(self, elapsed_s: float, estimate: Estimate) -> float:
        """Return how long it would have had to run with its last width to come as far as it probably is."""
        if not self.changes or estimate.work_s <= 0:
            return elapsed_s
        whole_s = estimate.seconds(self.now, 1.0)
        spans = self._spans(elapsed_s)
        return sum(span_s * whole_s / estimate.seconds(width, 1.0) for span_s, width in spans)

    def _spans(self, elapsed_s: float) -> Iterator[tuple[float, int]]:
        """Yield for how long it had which width."""
        begin, width = 0.0, self.first
        for at, wider in self.changes:
            end = min(at, elapsed_s)
            yield max(0.0, end - begin), width
            begin, width = max(begin, end), wider
        yield max(0.0, elapsed_s - begin), width
