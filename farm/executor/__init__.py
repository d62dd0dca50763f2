"""Where builds run: the interface :class:`Executor`, and its implementation over SSH."""

from farm.executor.base import (
    AttemptState,
    Build,
    Command,
    Executor,
    Launch,
    Limits,
    NodeFile,
    Progress,
    Result,
    Task,
    Update,
    Vitals,
    Widening,
)

__all__ = [
    "AttemptState",
    "Build",
    "Command",
    "Executor",
    "Launch",
    "Limits",
    "NodeFile",
    "Progress",
    "Result",
    "Task",
    "Update",
    "Vitals",
    "Widening",
]
