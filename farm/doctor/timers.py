"""The timers that playbooks/timers.yml sets up: are they there, and did what they started end well."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from farm.doctor.model import Check, fail, ok, warn
from farm.tryout import load

DOCTOR: Final = "farm-doctor"
TIMERS: Final = ("farm-index-refresh", "farm-index-try", DOCTOR)
"""As in roles/farm_timers."""

_SYSTEMD: Final = Path("/run/systemd/system")
_PLAYBOOK: Final = "ansible-playbook -i INVENTORY playbooks/timers.yml"
_ASK_S: Final = 20.0
OLD_TRY_DAYS: Final = 3
Show = Callable[[str], Mapping[str, str]]


def timers(show: Show | None = None, systemd: Path = _SYSTEMD) -> Iterator[Check]:
    """Check each timer, and how its last run ended."""
    if not systemd.exists() or (show is None and shutil.which("systemctl") is None):
        yield warn("timers", "systemd does not run here, so nothing runs by itself", "call them from cron")
        return
    for timer in TIMERS:
        yield _timer(timer, show or shown)


def last_try(path: Path, now: float) -> Iterator[Check]:
    """Check what `farm index try` found, and that it was not long ago."""
    name, report = "index: last try", load(path)
    if report is None:
        yield ok(name, "never tried; `farm index try` installs all that is hosted in the clean room")
        return
    days = (now - datetime.fromisoformat(report.tried_at).timestamp()) / 86400
    if report.broken:
        names = ", ".join(dict.fromkeys(f"{it.project} {it.version} ({it.fate})" for it in report.broken))
        yield fail(name, f"{days:.1f} days ago: {names}", "farm index try --json says why")
    elif days > OLD_TRY_DAYS:
        yield warn(name, f"{days:.0f} days ago", "farm index try; is its timer active?")
    else:
        yield ok(name, f"{days:.1f} days ago, {len(report.results)} tries went well")


def _timer(name: str, show: Show) -> Check:
    timer, service = show(f"{name}.timer"), show(f"{name}.service")
    subject = f"timer {name}"
    if timer.get("LoadState") != "loaded":
        return warn(subject, "is not there", _PLAYBOOK)
    if timer.get("ActiveState") != "active":
        return fail(
            subject, f"is {timer.get('ActiveState', 'unknown')}", f"systemctl enable --now {name}.timer"
        )
    result = service.get("Result", "")
    # The doctor's own last run failed by what it found then: what is so now, this one says itself.
    if name != DOCTOR and result not in {"", "success"}:
        code = service.get("ExecMainStatus", "?")
        return fail(subject, f"its last run ended as {result}, code {code}", f"journalctl -u {name}.service")
    return ok(subject, f"active; next {timer.get('NextElapseUSecRealtime') or 'unknown'}")


def shown(unit: str) -> Mapping[str, str]:
    """Ask systemd for a unit's properties; none where it does not answer."""
    command = ["systemctl", "show", "--no-pager", unit]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_ASK_S)
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines())
