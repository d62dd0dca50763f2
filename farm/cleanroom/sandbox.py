"""The walls: a bubblewrap command around one program of the bare riscv64 userland (pure).

What runs inside is emulated by QEMU through binfmt_misc; bubblewrap itself is this machine's, so the kernel's
own namespaces hold it: no network but where it is asked for, nothing writable but what is named, no process
of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOME: Final = "/tmp/home"  # noqa: S108  # inside: a tmpfs of its own
EMPTY: Final = "/tmp/empty"  # noqa: S108
SHELF: Final = "/room"
"""Where a trial's own files are mounted; a folder of the userland."""

UID: Final = 1000
"""What the user inside is called; outside it is the clean room's owner."""

_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of this machine that is seen inside."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program and all that it starts may take together; bytes and seconds."""

    seconds: float
    memory_bytes: int
    tasks: int
    """Processes and their threads; QEMU adds one thread to each process."""
    scratch_bytes: int = 1 << 30
    output_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Inside:
    """One program inside the walls."""

    argv: Sequence[str]
    qemu_cpu: str
    limits: Limits
    mounts: Sequence[Mount] = ()
    environment: Mapping[str, str] | None = None
    network: bool = False


def walled(program: Inside, userland: Path, *, drop_to: tuple[int, int] | None) -> list[str]:
    """Return the command that runs a program inside; ``drop_to`` is the user and group that root becomes.

    Root is dropped before anything else: the kernel limits no processes of its root, in whatever namespace.
    """
    limits = program.limits
    scratch = str(limits.scratch_bytes)
    command: list[str] = []
    if drop_to is not None:
        command += ["setpriv", f"--reuid={drop_to[0]}", f"--regid={drop_to[1]}", "--clear-groups", "--"]
    # Set on this side: user emulation ignores what a program inside says of its memory. The data limit is of
    # each process; that of all together is the watcher's.
    command += [
        "prlimit",
        "--core=0",
        f"--data={2 * limits.memory_bytes}",
        f"--fsize={scratch}",
        "--",
        "bwrap",
    ]
    command += ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    command += ["--share-net"] if program.network else []
    command += ["--uid", str(UID), "--gid", str(UID), "--hostname", "clean-room"]
    command += ["--ro-bind", str(userland), "/", "--proc", "/proc", "--dev", "/dev"]
    command += ["--size", scratch, "--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    command += ["--size", scratch, "--perms", "1777", "--tmpfs", "/tmp", "--dir", HOME, "--dir", EMPTY]  # noqa: S108
    command += ["--size", "1048576", "--tmpfs", SHELF]
    for mount in program.mounts:
        command += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    command += ["--remount-ro", SHELF, "--chdir", EMPTY, "--clearenv"]
    for name, value in _environment(program).items():
        command += ["--setenv", name, value]
    # Inside, because the kernel counts processes by namespace: on this side, the user's others would count.
    return [*command, "--", "/usr/bin/prlimit", f"--nproc={2 * limits.tasks}", "--", *program.argv]


def _environment(program: Inside) -> dict[str, str]:
    return {
        "HOME": HOME,
        "LANG": "C.UTF-8",
        "PATH": _PATH,
        "TERM": "dumb",
        "USER": "room",
        **(program.environment or {}),
        "QEMU_CPU": program.qemu_cpu,
    }
