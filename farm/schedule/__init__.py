"""Which job runs on which node now, and how wide. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from farm.schedule.lookahead import LookAhead
from farm.schedule.model import (
    Assignment,
    Estimate,
    FarmState,
    Needs,
    NodeState,
    Policy,
    QueuedJob,
    RunningJob,
    unmet,
)
from farm.schedule.simple import FifoEight, FifoOne, LabelGrab, LongestFirst, RoundRobin

POLICIES: Final[Mapping[str, Callable[[], Policy]]] = MappingProxyType(
    {policy.name: policy for policy in (LookAhead, LongestFirst, FifoEight, FifoOne, LabelGrab, RoundRobin)}
)
"""Makers of policies by name; the first is the default."""

__all__ = [
    "POLICIES",
    "Assignment",
    "Estimate",
    "FarmState",
    "LookAhead",
    "Needs",
    "NodeState",
    "Policy",
    "QueuedJob",
    "RunningJob",
    "unmet",
]
