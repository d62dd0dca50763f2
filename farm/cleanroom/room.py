"""The clean room on this machine: where it is, which Pythons it has, and whether it can be entered."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from farm.cleanroom.sandbox import Inside, Limits, walled
from farm.errors import ExitCode, FarmError
from farm.verify.expect import installable
from farm.wheel_name import WheelName

FOLDER: Final = Path("/var/lib/wheelfarm/clean-room")
BASELINE: Final = "sifive-u54"
"""rv64gc and nothing else: what dies there can't be installed everywhere."""

CPUS: Final = (BASELINE, "rv64,v=true,vlen=128", "rv64,v=true,vlen=256")
ILLEGAL: Final = "illegal-instruction"
"""Name of the finding that an instruction is none of rv64gc's."""

VECTOR_LENGTH: Final = "vector-length"
"""Name of the finding that the same passes on a core whose vectors have another length."""

NO_WHEEL: Final = "no-wheel"
"""Name of the finding that pip has no wheel for a requirement, which is then the verdict's subject."""

MAKE: Final = "make it: ansible-playbook playbooks/controller.yml"
LEAST_DISK: Final = 2 << 30
_PROBE_S: Final = 60.0
_PYTHON = re.compile(r"python3\.(\d+)")


class RoomError(FarmError):
    """The clean room is at fault, not the wheel, of which nothing is known: try again when it is well."""

    exit_code = ExitCode.NODE


class NoPythonError(RoomError):
    """The room lacks the Python that a wheel is for."""


@dataclass(frozen=True, slots=True)
class CleanRoom:
    """A bare userland, the folder that trials work in, and the processors that they are run on.

    Attributes:
        userland: root folder of the bare system, made by the role ``clean_room``.
        work: folder of trials and of pip's cache. Its owner is who runs wheels: when root proves a wheel, it
            becomes that user first.
        cpus: values of QEMU_CPU; the first is the baseline, and what fails there is not tried further.
        slowness: how many times longer than on a reference core things take here.
        memory_bytes: of one program with all that it starts.
        tasks: its processes and threads; QEMU adds a thread to each process.
        install_s: seconds that an installation may take on a reference core.
        import_s: the same of importing all modules; each adds a second.
    """

    userland: Path
    work: Path
    cpus: tuple[str, ...] = CPUS
    slowness: float = 4.0
    memory_bytes: int = 2 << 30
    tasks: int = 256
    install_s: float = 300.0
    import_s: float = 60.0

    @classmethod
    def at(cls, folder: Path = FOLDER) -> CleanRoom:
        """Return the room that the role ``clean_room`` made in a folder."""
        return cls(folder / "userland", folder / "work")

    def pythons(self) -> Mapping[str, str]:
        """Return the room's CPythons, newest first: tag (``cp313``) to the program's path inside."""
        found = {}
        for pattern in ("usr/bin/python3.*", "opt/wheelfarm/python/*/bin/python3.*"):
            for path in self.userland.glob(pattern):
                match = _PYTHON.fullmatch(path.name)
                if match:
                    found[int(match[1])] = f"/{path.relative_to(self.userland)}"
        return {f"cp3{minor}": found[minor] for minor in sorted(found, reverse=True)}

    def python_for(self, name: WheelName, wanted: str = "") -> tuple[str, str]:
        """Return tag and program of the Python that tries a wheel: ``wanted``, or the newest that takes it.

        Raises:
            NoPythonError: there is none.
        """
        pythons = self.pythons()
        platforms = sorted({tag.platform for tag in name.tags})
        for tag, program in pythons.items():
            if wanted in {"", tag} and name.tags & installable(tag, platforms):
                return tag, program
        has = ", ".join(pythons) or "none"
        raise NoPythonError(
            f"{name.filename}: no {wanted or name.python_abi} in the clean room, which has {has}",
            hint="name its archive in clean_room_pythons and run: ansible-playbook playbooks/controller.yml",
        )

    @property
    def drop_to(self) -> tuple[int, int] | None:
        """The user and group that root becomes; None where this process is not root."""
        if os.geteuid() != 0:
            return None
        owner = self.work.stat()
        return owner.st_uid, owner.st_gid

    def own(self, *paths: Path) -> None:
        """Hand folders to who works in them."""
        if (owner := self.drop_to) is not None:
            for path in paths:
                os.chown(path, *owner)

    def limits(self, seconds: float) -> Limits:
        """Return the limits of a program that takes so long, in seconds, on a reference core."""
        return Limits(seconds * self.slowness, memory_bytes=self.memory_bytes, tasks=self.tasks)

    def check(self) -> None:
        """Enter the room once.

        Raises:
            RoomError: it is not there, can't be entered, or has no disk left; the hint says what to do.
        """
        if not (self.userland / "usr/bin/python3").exists() or not self.work.is_dir():
            raise RoomError(f"no clean room in {self.userland.parent}", hint=MAKE)
        missing = [program for program in ("bwrap", "prlimit", "setpriv") if shutil.which(program) is None]
        if missing:
            raise RoomError(
                f"{', '.join(missing)}: not on this machine, so wheels can't be run",
                hint="apt-get install bubblewrap util-linux",
            )
        owner = self.work.stat().st_uid
        if owner == 0 or os.geteuid() not in {0, owner}:
            raise RoomError(f"{self.work} belongs to user {owner}, which can't run wheels here", hint=MAKE)
        if shutil.disk_usage(self.work).free < LEAST_DISK:
            raise RoomError(f"{self.work}: less than {LEAST_DISK >> 30} GiB free", hint="free some space")
        self._enter()

    def _enter(self) -> None:
        program = Inside(["/bin/true"], self.cpus[0], self.limits(_PROBE_S))
        command = walled(program, self.userland.resolve(), drop_to=self.drop_to)
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PROBE_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RoomError(f"the clean room can't be entered: {error}", hint=MAKE) from error
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
            raise RoomError(f"the clean room can't be entered: {said}", hint=_entry_hint(said))


def _entry_hint(said: str) -> str:
    if "namespace" in said or "uid map" in said or "Operation not permitted" in said:
        return (
            "users must be allowed namespaces: as root, sysctl user.max_user_namespaces=10000, on Ubuntu"
            " kernel.apparmor_restrict_unprivileged_userns=0; a container needs nested user namespaces"
        )
    if "Exec format" in said or "No such file" in said:
        return "riscv64 programs don't run here: ansible-playbook playbooks/controller.yml"
    if "Permission denied" in said:
        return "the user that owns the clean room's work folder must be able to read its userland"
    return MAKE
