"""Every error a user can meet, under one root.

Each class says what went wrong (its message), what to do about it (``hint``) and which exit code
the ``farm`` command ends with. Only :mod:`farm.cli` turns them into text; no traceback reaches a user.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of the ``farm`` command; documented in docs/reference.md."""

    OK = 0
    FAILED = 1  # the command ran; a build, a gate or a check did not pass
    USAGE = 2  # the command line itself is wrong (click's own code)
    INPUT = 3  # a file, a requirement, a recipe or an inventory is wrong
    UPSTREAM = 4  # PyPI has no such thing, or sent something else than it promised
    NODE = 5  # a board can't be reached, trusted or used
    PUBLISH = 6  # the index could not be written or does not serve what was written
    BUSY = 7  # another controller holds the farm
    FAULT = 70  # a fault of the farm itself (EX_SOFTWARE); the report is in a file
    INTERRUPTED = 130


class FarmError(Exception):
    """Root of all errors of the farm. ``hint`` names the fix in one line."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(FarmError):
    """A file or an argument that a person wrote is wrong."""

    exit_code = ExitCode.INPUT


class CycleError(InputError):
    """Projects that need each other to be built, so that none can be the first."""

    def __init__(self, path: Sequence[str], *, hint: str = "") -> None:
        super().__init__(" needs ".join(path), hint=hint)
        self.path = tuple(path)


class UpstreamError(FarmError):
    """The upstream index lacks what was asked for, or can't be reached."""

    exit_code = ExitCode.UPSTREAM


class HashMismatchError(UpstreamError):
    """Bytes differ from the sha256 that was promised for them."""

    def __init__(self, what: str, *, expected: str, actual: str, hint: str = "") -> None:
        super().__init__(f"{what}: sha256 is {actual}, expected {expected}", hint=hint)
        self.expected = expected
        self.actual = actual


class NodeError(FarmError):
    """A node can't be reached, trusted or used."""

    exit_code = ExitCode.NODE

    def __init__(self, node: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{node}: {message}", hint=hint)
        self.node = node


class LyingNodeError(NodeError):
    """A node's answer contradicts itself or the protocol: nothing it says can be relied on."""


class WheelError(FarmError):
    """A wheel can't be read, or is not what it says it is."""


class PublishError(FarmError):
    """The index could not be written, or does not serve what was written."""

    exit_code = ExitCode.PUBLISH


class NameTakenError(PublishError):
    """A wheel of this name, or of its version and tags, is published with other bytes (F06)."""


class BusyError(FarmError):
    """Another process holds the farm's state."""

    exit_code = ExitCode.BUSY
