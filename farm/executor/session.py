"""One conversation with ``farm-node serve``: a request, and its answer within a time limit."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import paramiko

from farm.errors import LyingNodeError, NodeError
from farm.executor.answers import SHOWN, plain
from farm.executor.link import BROKEN

# A chunk of log of each attempt that a node could hold, in base64, with room to spare.
MAX_ANSWER_BYTES: Final = 16 << 20
MAX_NOISE_BYTES: Final = 64 * 1024
CHUNK_BYTES: Final = 256 * 1024
LAST_WORDS_S: Final = 1.0
encode = json.JSONEncoder(separators=(",", ":")).encode


class _Bell:
    """Stands where paramiko's channel has an Event: rings once when something came."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring: Callable[[], None] | None = ring

    def set(self) -> None:
        """There is something to read, or the channel was closed; the channel's lock is held."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring()

    def clear(self) -> None:
        """All was read."""


class Session:
    """JSON lines over one channel; ends with its first error."""

    def __init__(self, node: str, channel: paramiko.Channel) -> None:
        self._node = node
        self._channel = channel
        self._pending = bytearray()
        self._number = 0
        self._asked = ""
        self._dropped: list[int] = []
        self._deadline = self._timeout_s = 0.0
        self._writing = threading.Lock()
        self.noise = ""
        """What was printed before the first answer: by the login shell's start-up files."""

    @property
    def ended(self) -> bool:
        """Whether the other side is gone, as far as this one knows."""
        return bool(self._channel.closed or self._channel.eof_received)

    def request(self, operation: str, timeout_s: float, **fields: object) -> Mapping[str, object]:
        """Ask, and return the answer.

        Raises:
            NodeError: none came in time, the link broke, or the node refuses.
            LyingNodeError: what came is no answer.
        """
        self.ask(operation, timeout_s, **fields)
        return self.answer()

    def ask(self, operation: str, timeout_s: float, **fields: object) -> None:
        """Send a request; raises as :meth:`request` does. Its answer is to be taken, or is dropped."""
        if self._asked:
            self._dropped.append(self._number)
        self._number += 1
        self._asked, self._deadline, self._timeout_s = operation, time.monotonic() + timeout_s, timeout_s
        with self._told():
            self._send({"id": self._number, "op": operation, **fields}, timeout_s)

    def when_ready(self, ready: Callable[[], None]) -> None:
        """Call ``ready`` once, in any thread, when there is something to read, or the link has ended."""
        if b"\n" in self._pending:
            ready()
        else:
            # Where the channel has something already, or is closed, it rings at once.
            self._channel.in_buffer.set_event(_Bell(ready))  # type: ignore[arg-type]  # all it needs of an Event

    def answer(self) -> Mapping[str, object]:
        """Return the answer to what was asked last; raises as :meth:`request` does."""
        with self._told():
            while (answer := self._answer(self._deadline)).get("id") in self._dropped:
                self._dropped.pop(0)
        if answer.get("id") != self._number:
            self.close()
            raise LyingNodeError(
                self._node, f"it answers what was not asked: id {plain(answer.get('id'), SHOWN)}"
            )
        operation, self._asked = self._asked, ""
        if "error" in answer:
            raise self._error(f"it refuses `{operation}`: {plain(answer['error'], SHOWN)}")
        return answer

    def interrupt(self) -> None:
        """Let a request that waits be answered now; may come from another thread."""
        try:
            self._send({"op": "wake"}, 1.0)
        except BROKEN:
            return  # who waits will see it, too

    def close(self) -> None:
        """End it; what was started there goes on."""
        with contextlib.suppress(*BROKEN):  # it tells the other side, if there is one
            self._channel.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """End with the first error, and tell what was asked when it came."""
        try:
            yield
        except TimeoutError as error:
            self.close()
            raise self._error(f"no answer to `{self._asked}` within {self._timeout_s:g} s") from error
        except BROKEN as error:
            why = self._why(error)
            self.close()
            raise self._error(f"the link broke during `{self._asked}`: {why}") from error
        except NodeError:
            self.close()
            raise

    def _send(self, request: Mapping[str, object], timeout_s: float) -> None:
        data = encode(request).encode() + b"\n"
        with self._writing:
            self._channel.settimeout(timeout_s)
            self._channel.sendall(data)

    def _answer(self, deadline: float) -> Mapping[str, object]:
        while True:
            line = self._line(deadline)
            try:
                answer = json.loads(line)
            except ValueError:
                answer = None
            if isinstance(answer, dict) and "id" in answer:
                return answer
            text = line.decode(errors="replace").strip()
            if self._number > 1:
                raise LyingNodeError(self._node, f"its answer is no JSON object with an id: {text[:SHOWN]!r}")
            # Nothing was answered yet: the login shell's files may print, and this is not ours.
            self.noise += f"{text}\n"
            if len(self.noise) > MAX_NOISE_BYTES:
                raise self._error("no answer, but text without an end")

    def _line(self, deadline: float) -> bytes:
        searched = 0
        while (end := self._pending.find(b"\n", searched)) < 0:
            searched = len(self._pending)
            if searched > MAX_ANSWER_BYTES:
                raise LyingNodeError(self._node, f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
            # What is there already came in time, however late it is read.
            left = max(0.0, deadline - time.monotonic())
            self._channel.settimeout(left)
            try:
                data = self._channel.recv(CHUNK_BYTES)
            except TimeoutError:
                if not left:
                    raise
                continue  # `interrupt`, in another thread, set a shorter one: the deadline decides
            if not data:
                raise EOFError
            self._pending += data
        line = bytes(self._pending[:end])
        del self._pending[: end + 1]
        return line

    def _why(self, error: Exception) -> str:
        """Return what is known of an end: what was printed to stderr, and the exit code."""
        said = ""
        self._channel.settimeout(LAST_WORDS_S)
        with contextlib.suppress(OSError):
            said = self._channel.recv_stderr(MAX_NOISE_BYTES).decode(errors="replace").strip()
        if self._channel.status_event.wait(LAST_WORDS_S) and self._channel.exit_status >= 0:
            last = (said or self.noise.strip() or "no output").splitlines()[-1]
            return f"farm-node ended with code {self._channel.recv_exit_status()}: {plain(last, SHOWN)}"
        return f"{type(error).__name__} {error}".strip()

    def _error(self, message: str) -> NodeError:
        hint = f"run `farm provision {self._node}`"
        if self.noise.strip():
            first = self.noise.strip().splitlines()[0][:SHOWN]
            hint = f"its shell prints text at login ({first!r}): end that in its start-up files"
        return NodeError(self._node, message, hint=hint)
