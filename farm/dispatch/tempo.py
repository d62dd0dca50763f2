"""How patient a dispatch is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tempo:
    """How patient a dispatch is; all in seconds."""

    busy_wait_s: float = 1.0
    """How long a node may keep a poll open that brings nothing, while there is work."""
    idle_wait_s: float = 5.0
    backoff_s: float = 1.0
    """Between two tries to reach a node; doubled each time."""
    lost_s: float = 120.0
    """The least time for which an unreachable node's builds are waited for."""
    patience_s: float = 120.0
    """How long to wait for a usable node while nothing runs, before the dispatch ends."""
    quarantine: float = 1.0
    """Scales how long a node stays in quarantine before a probe."""
