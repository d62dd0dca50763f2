"""Builds on a node over SSH: the controller's side of ``farm-node serve`` (:mod:`farm.node`)."""

from __future__ import annotations

import builtins
import shlex
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Final

from farm.errors import LyingNodeError, NodeError
from farm.executor import answers
from farm.executor.answers import SHOWN, checked, plain
from farm.executor.base import AttemptState, Build, Launch, Limits, NodeFile, Update, Vitals
from farm.executor.files import get, put
from farm.executor.link import Link
from farm.executor.session import Session
from farm.node import VERSION
from farm.nodes import Facts, Node

FARM_NODE: Final = "/usr/local/lib/wheelfarm/farm-node"
# A board's Python starts in seconds, a slow login shell adds to it.
HELLO_S: Final = 60.0
ANSWER_S: Final = 30.0
# It compiles a program, and asks dpkg and compilers.
PREPARE_S: Final = 180.0
CANCEL_S: Final = 60.0
SLOW_S: Final = 5.0
GATHER_S: Final = 0.2
LONGEST_GATHER_S: Final = 2.0
# A third of a millisecond of the controller goes into each answer: this many take four tenths of a core.
ANSWERS_PER_S: Final = 1140


def gather_s(nodes: int) -> float:
    """Return how long output is gathered before it is sent, in seconds, so that one controller keeps up."""
    return min(LONGEST_GATHER_S, max(GATHER_S, nodes / ANSWERS_PER_S))


class SshExecutor:
    """An :class:`farm.executor.Executor` for one node: one connection, one channel, and SFTP for files."""

    places_jobs: ClassVar[bool] = False

    def __init__(self, node: Node, *, farm_node: str = "", gather_s: float = GATHER_S) -> None:
        self.node = node
        self._gather_s = gather_s
        self._farm_node = farm_node or FARM_NODE
        self._link = Link(node.address)
        self._session: Session | None = None
        self._builds: set[str] = set()
        self._waking = threading.Lock()
        self._polling = False
        self._woken = False
        self._asked: tuple[Session, Mapping[str, int]] | None = None
        self.connect_s: float | None = None
        """How long the last connection took to make: TCP, keys, and login."""
        self.shell_s: float | None = None
        """How long ``farm-node`` then took to answer: the login shell's start-up files and an interpreter."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes this node's link worse than it had to be, in words for a person."""
        found = []
        if self._session is not None and self._session.noise.strip():
            first = self._session.noise.strip().splitlines()[0][:SHOWN]
            found.append(f"its shell prints text at login: {first!r}")
        if (self.connect_s or 0) > SLOW_S:
            found.append(f"connecting took {self.connect_s:.1f} s")
        if (self.shell_s or 0) > SLOW_S:
            found.append(f"its shell and farm-node took {self.shell_s:.1f} s to start")
        return tuple(found)

    def prepare(self) -> Facts:
        """See Executor."""
        answer = self._ask("prepare", PREPARE_S)
        return checked(self.node.name, "facts", lambda: answers.facts(answer))

    def start(self, launch: Launch) -> Vitals:
        """See Executor."""
        task = launch.task
        if isinstance(task, Build):
            self._builds.add(launch.attempt_id)
        answer = self._start(launch)
        if "missing" in answer and isinstance(task, Build):
            wanted = f"incoming/{task.spec.sdist_sha256}/{task.spec.sdist_filename}"
            if answer["missing"] != wanted:
                raise LyingNodeError(self.node.name, f"it asks for {str(answer['missing'])[:SHOWN]!r}")
            put(self._link, task.sdist, f"{self.node.root}/{wanted}")
            answer = self._start(launch)
        return checked(self.node.name, "vitals", lambda: answers.vitals(answer))

    def list(self) -> Mapping[str, AttemptState]:
        """See Executor."""
        answer = self._ask("list")
        return checked(self.node.name, "list of attempts", lambda: answers.states(answer))

    def ask(self, offsets: Mapping[str, int], wait_s: float, ready: Callable[[], None]) -> float:
        """See Executor."""
        session = self._ask_poll(offsets, wait_s)
        self._asked = (session, offsets)
        session.when_ready(ready)
        return ANSWER_S + wait_s

    def poll(self, offsets: Mapping[str, int], wait_s: float = 0.0) -> Update:
        """See Executor."""
        asked, self._asked = self._asked, None
        session = asked[0] if asked and asked[1] == offsets else self._ask_poll(offsets, wait_s)
        try:
            answer = session.answer()
        finally:
            self._ends_waiting()
        return checked(self.node.name, "answer to a poll", lambda: self._update(answer, offsets))

    def wake(self) -> None:
        """See Executor."""
        with self._waking:
            session = self._session
            if self._polling and session is not None:
                session.interrupt()
            else:
                self._woken = True

    def read_log(self, attempt_id: str, offset: int) -> bytes:
        """See Executor."""
        answer = self._ask("read_log", attempt=attempt_id, offset=offset)
        return checked(self.node.name, "log", lambda: answers.log(answer))

    def collect(self, attempt_id: str, file: NodeFile, directory: Path) -> Path:
        """See Executor."""
        self._open()
        source = f"{self.node.root}/jobs/{attempt_id}/wheelhouse/{file.filename}"
        return get(self._link, source, file, directory)

    def widen(self, attempt_id: str, width: int, limits: Limits) -> bool:
        """See Executor."""
        answer = self._ask("widen", attempt=attempt_id, width=width, limits=asdict(limits))
        return answer.get("wider") is True

    def cancel(self, attempt_id: str) -> None:
        """See Executor."""
        answer = self._ask("cancel", CANCEL_S, attempt=attempt_id)
        if answer.get("state") == AttemptState.RUNNING:
            raise NodeError(self.node.name, f"{attempt_id} does not end", hint="look at its processes there")

    def forget(self, attempt_id: str) -> None:
        """See Executor."""
        self._ask("forget", attempt=attempt_id)
        self._builds.discard(attempt_id)

    def close(self) -> None:
        """See Executor."""
        if self._session is not None:
            self._session.close()
            self._session = None
        self._link.close()

    def _ask_poll(self, offsets: Mapping[str, int], wait_s: float) -> Session:
        session = self._open()
        with self._waking:
            wait_s, self._woken = (0.0, False) if self._woken else (wait_s, False)
            self._polling = True
        try:
            session.ask(
                "poll", ANSWER_S + wait_s, offsets=dict(offsets), wait_s=wait_s, gather_s=self._gather_s
            )
        except BaseException:
            self._ends_waiting()
            raise
        return session

    def _ends_waiting(self) -> None:
        with self._waking:
            self._polling = False

    def _start(self, launch: Launch) -> Mapping[str, object]:
        spec = {**launch.to_json(), "unsandboxed": self.node.unsandboxed}
        return self._ask("start", attempt=launch.attempt_id, spec=spec)

    def _ask(self, operation: str, timeout_s: float = 0.0, **fields: object) -> Mapping[str, object]:
        self._asked = None
        return self._open().request(operation, timeout_s or ANSWER_S, **fields)

    def _open(self) -> Session:
        """Return the session; one that ended by itself, or a link that broke, is opened anew."""
        session = self._session
        if session is not None and not session.ended and self._link.is_open:
            return session
        self.close()
        began = time.monotonic()
        channel = self._link.execute(shlex.join([self._farm_node, "--root", self.node.root, "serve"]))
        connected = time.monotonic()
        session = Session(self.node.name, channel)
        try:
            self._greet(session)
        except NodeError:
            self._link.close()
            raise
        self.connect_s, self.shell_s = connected - began, time.monotonic() - connected
        self._session = session
        return session

    def _greet(self, session: Session) -> None:
        # Before anything else: another version may mean something else by the same words.
        version = session.request("hello", HELLO_S).get("version")
        if version != VERSION:
            raise NodeError(
                self.node.name,
                f"its farm-node has version {plain(version, SHOWN)}, this controller needs {VERSION}",
                hint=f"run `farm provision {self.node.name}`",
            )

    def _update(self, answer: Mapping[str, object], offsets: Mapping[str, int]) -> Update:
        items = answer["progress"]
        if not isinstance(items, builtins.list):
            raise TypeError("progress is no list")
        builds = frozenset(self._builds)
        progress = [answers.progress(item, offsets, builds) for item in items]
        if len({item.attempt_id for item in progress}) < len(progress):
            raise ValueError("an attempt is there twice")
        return Update(answers.vitals(answer), progress)
