"""Where the controller keeps its state."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY = Path(__file__).resolve().parent.parent
PROOF_LOG: Final = ".proof.log"


def own_programs_first() -> None:
    """Put this environment's programs first: ansible-runner starts Ansible's commands by name."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


@dataclass(frozen=True, slots=True)
class Paths:
    """The layout below the state directory: ``--state``, FARM_STATE, or ``var/INVENTORY`` in the checkout."""

    state: Path

    @classmethod
    def of(cls, inventory: Path, state: Path | None) -> Paths:
        """Return the paths in ``state``, or in the inventory's own folder: sites never mix."""
        return cls((state or REPOSITORY / "var" / inventory.resolve().name).resolve())

    @property
    def database(self) -> Path:
        """Jobs and attempts."""
        return self.state / "farm.sqlite"

    @property
    def lock(self) -> Path:
        """Held by the one controller."""
        return self.state / "dispatch.lock"

    @property
    def sdists(self) -> Path:
        """Downloads, each under its sha256."""
        return self.state / "sdists"

    @property
    def tree(self) -> Path:
        """The index as it is published."""
        return self.state / "index"

    @property
    def debian(self) -> Path:
        """Which Debian package has which library, as last asked for."""
        return self.state / "debian"

    def sdist(self, sha256: str, filename: str) -> Path:
        """The download of one sdist."""
        return self.sdists / sha256 / filename

    def wheels(self, attempt_id: str) -> Path:
        """Wheels collected from one attempt."""
        return self.state / "wheels" / attempt_id

    @property
    def logs(self) -> Path:
        """All logs."""
        return self.state / "logs"

    def log(self, attempt_id: str) -> Path:
        """The log of one attempt."""
        return self.logs / f"{attempt_id}.log"

    def proof(self, attempt_id: str) -> Path:
        """Where the clean room's log of an attempt's wheel is kept, or of one from elsewhere, by its name."""
        return self.logs / f"{attempt_id}{PROOF_LOG}"

    def record(self, attempt_id: str) -> Path:
        """What the node wrote down of one attempt that succeeded."""
        return self.logs / f"{attempt_id}.record.json"

    @property
    def tried(self) -> Path:
        """What `farm index try` found the last time."""
        return self.state / "tried.json"

    @property
    def signing_key(self) -> Path:
        """The farm's own key, for provenance."""
        return self.state / "provenance.key"
