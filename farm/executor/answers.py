"""Reading what a node answers. It may be damaged or hostile: what makes no sense raises LyingNodeError."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from farm.errors import LyingNodeError
from farm.executor.base import MAX_WHEEL_BYTES, AttemptState, NodeFile, Progress, Result, Vitals
from farm.nodes import Facts

Json = Mapping[str, object]
T = TypeVar("T")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
FILENAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!-]{0,254}")
# What a node can know of a failure; the other classes are the controller's.
FAILURES: Final = frozenset({"node", "timeout", "memory", "source", "build", "policy", "cancelled"})
MAX_FILES: Final = 1000
LONGEST_MESSAGE: Final = 4000
SHOWN: Final = 200


def checked(node: str, what: str, read: Callable[[], T]) -> T:
    """Return what ``read`` returns; an answer that it chokes on is the node's fault."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        text = plain(f"its {what} makes no sense: {type(error).__name__}: {error}", SHOWN)
        raise LyingNodeError(node, text) from error


def plain(text: object, longest: int) -> str:
    """Return a node's words for a terminal: one line of limited length without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:longest])


def vitals(answer: Json) -> Vitals:
    """Read them."""
    content = _object(answer, "vitals")
    return Vitals(
        clock=_float(content, "clock"),
        load=_float(content, "load"),
        disk_free_bytes=_size(content, "disk_free_bytes"),
        memory_available_bytes=_size(content, "memory_available_bytes"),
        machine_id=_text(content, "machine_id"),
        boot_id=_text(content, "boot_id"),
        toolchain=_text(content, "toolchain"),
    )


def facts(answer: Json) -> Facts:
    """Read them."""
    return Facts.from_mapping(_object(answer, "facts"))


def states(answer: Json) -> dict[str, AttemptState]:
    """Read the attempts that a node holds."""
    return {str(name): AttemptState(str(state)) for name, state in _object(answer, "attempts").items()}


def log(answer: Json) -> bytes:
    """Read a part of a log."""
    return base64.b64decode(_text(answer, "log"), validate=True)


def progress(item: object, offsets: Mapping[str, int], builds: frozenset[str]) -> Progress:
    """Read one attempt's progress; ``builds`` are those that can't succeed without a file."""
    if not isinstance(item, dict):
        raise TypeError("progress is no object")
    name, chunk = _text(item, "attempt"), log(item)
    if name not in offsets or item["offset"] != offsets[name] + len(chunk):
        raise ValueError(f"progress of {name!r} was not asked for from there")
    state, content = AttemptState(_text(item, "state")), item.get("result")
    if (state is AttemptState.FINISHED) != isinstance(content, dict):
        raise ValueError(f"{name} is {state}, and its result is {'there' if content else 'not there'}")
    return Progress(
        attempt_id=name,
        state=state,
        log=chunk,
        offset=offsets[name] + len(chunk),
        more=bool(item.get("more")),
        result=result(content, built=name in builds) if isinstance(content, dict) else None,
    )


def result(content: Json, *, built: bool) -> Result:
    """Read how an attempt ended; a build that succeeded has a file."""
    failure, files = content["failure"], content["wheels"]
    if failure is not None and failure not in FAILURES:
        raise ValueError(f"no such failure: {failure!r}")
    if not isinstance(files, list) or len(files) > MAX_FILES:
        raise TypeError("wheels is no list, or a very long one")
    if failure is None and not files and (built or content.get("task") != "command"):
        raise ValueError("a build succeeded and left no wheel")
    peak = content.get("peak_memory_bytes")
    return Result(
        failure=None if failure is None else str(failure),
        message=plain(content["message"], LONGEST_MESSAGE),
        wheels=tuple(_file(item) for item in files),
        started_at=_float(content, "started"),
        duration_s=_float(content, "duration_s"),
        phases_s=_times(content, "phases_s"),
        processor_s=_times(content, "processor_s"),
        toolchain=_object(content, "toolchain") if "toolchain" in content else {},
        peak_memory_bytes=None if peak is None else _size(content, "peak_memory_bytes"),
        peak_of_tree=content.get("peak_of_tree") is True,
    )


def _file(item: object) -> NodeFile:
    if not isinstance(item, dict):
        raise TypeError("a wheel is no object")
    name, size, digest = _text(item, "filename"), _size(item, "size"), _text(item, "sha256")
    if not FILENAME.fullmatch(name):
        raise ValueError(f"{name!r} is no plain file name")
    if not SHA256.fullmatch(digest):
        raise ValueError(f"{digest!r} is no sha256")
    if size > MAX_WHEEL_BYTES:
        raise ValueError(f"{name} is said to have {size} bytes")
    return NodeFile(name, size, digest)


def _times(content: Json, key: str) -> dict[str, float]:
    # A result that was written for a controller, not by the steps, has none.
    found = _object(content, key) if key in content else {}
    return {str(name): _float(found, name) for name in found}


def _object(content: Json, key: str) -> Json:
    found = content[key]
    if not isinstance(found, dict):
        raise TypeError(f"{key} is no object")
    return found


def _text(content: Json, key: str) -> str:
    found = content[key]
    if not isinstance(found, str):
        raise TypeError(f"{key} is no text")
    return found


def _float(content: Json, key: str) -> float:
    found = content[key]
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise TypeError(f"{key} is no number")
    if not math.isfinite(found):
        raise ValueError(f"{key} is no number")
    return float(found)


def _size(content: Json, key: str) -> int:
    found = content[key]
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise TypeError(f"{key} is no number of bytes")
    return found
