"""How a supervisor gets to run: as a unit of systemd where that is to be had, else forked."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from farm.node import unit, units
from farm.node.supervise import NotClaimedError, Order, supervise

# Starts the supervisor of an order, away from the caller's session, and returns whether it did: False means
# that it was started before. It gets the file descriptors that must not live on in the supervisor.
# Raises OSError with the reason where it could not be started, or not be claimed.
Launcher = Callable[[Order, Sequence[int]], bool]
CLAIMED, NOT_MINE = b"+", b"-"


def launch(order: Order, inherited: Sequence[int]) -> bool:
    """Run the supervisor as a unit where units can be used, else fork it."""
    return units.start(order) if unit.usable() else fork(order, inherited)


def fork(order: Order, inherited: Sequence[int]) -> bool:
    """Run the supervisor in a forked process: no interpreter has to start.

    The agent has one thread, so this is safe. The new process claims the attempt itself, and with the claim
    names itself: the agent may be killed at any moment without losing it.
    """
    hears, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(hears)
            _detach(order.job, inherited)
            supervise(order, lambda mine: _tell(says, CLAIMED if mine else NOT_MINE))
        except NotClaimedError as error:
            _tell(says, str(error).encode())
        except BaseException:  # noqa: BLE001  # it must never get back into the agent's loop
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(says)
    with open(hears, "rb") as pipe:  # noqa: PTH123
        answer = pipe.read()
    if answer not in {CLAIMED, NOT_MINE}:
        raise OSError(answer.decode() or "the supervisor ended at once")
    return answer == CLAIMED


def in_place(order: Order) -> int:
    """Be the supervisor: for whatever started ``farm-node supervise`` in a session or unit of its own."""
    if os.getsid(0) != os.getpid():
        with contextlib.suppress(PermissionError):  # a process group's leader can't
            os.setsid()
    _detach(order.job, (), session=False)
    supervise(order, lambda mine: None if mine else sys.exit(0))
    return 0


def _detach(job: Path, inherited: Sequence[int], *, session: bool = True) -> None:
    if session:
        os.setsid()
    for number in inherited:
        os.close(number)
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(job / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    os.chdir(job)
    os.umask(0o022)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _tell(pipe: int, answer: bytes) -> None:
    # Closed at once: what the task starts must not hold it.
    with contextlib.suppress(OSError):
        os.write(pipe, answer)
        os.close(pipe)
