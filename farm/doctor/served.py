"""The index as it is served: does it answer, is it what the local tree says, how long will it go on so."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import ansible_runner
import requests

from farm.doctor.machines import SKEW_S
from farm.doctor.model import Check, fail, judge_space, ok, warn
from farm.errors import NodeError
from farm.index.crawl import crawl
from farm.index.tree import IndexTree
from farm.nodes import IndexHost
from farm.paths import REPOSITORY
from farm.verify.model import counted, printable

SOON_DAYS: Final = 30
"""So long before a certificate or a token ends, somebody is told."""

_ASK_S: Final = 20.0
_SHOWN: Final = 3
_LONGEST: Final = 200


def answers(host: IndexHost, http: requests.Session) -> Iterator[Check]:
    """Check that it answers, and its clock, which clients' caches go by."""
    name, mend = "index: answers", f"farm provision {host.address.name}"
    try:
        response = http.get(host.simple_url, timeout=_ASK_S, headers={"Accept": "text/html"})
        response.raise_for_status()
    except requests.RequestException as error:
        yield fail(name, f"{host.simple_url}: {why(error)}", mend)
        return
    yield ok(name, host.simple_url)
    yield clock(response.headers.get("Date", ""), time.time())


def clock(date: str, now: float) -> Check:
    """Judge the header Date (pure)."""
    try:
        skew = abs(parsedate_to_datetime(date).timestamp() - now)
    except (TypeError, ValueError):
        return warn("index: clock", f"its Date header is {date[:40]!r}", "is nginx what answers there?")
    if skew > SKEW_S:
        return warn("index: clock", f"{skew:.0f} s off this controller's", "let NTP keep both clocks")
    return ok("index: clock", f"{skew:.0f} s off this controller's")


def newest(tree: IndexTree, host: IndexHost, http: requests.Session) -> Iterator[Check]:
    """Crawl the project that was published last: every link, every hash."""
    wheels = [wheel for project in tree.projects() for wheel in tree.wheels(project)]
    if not wheels:
        yield ok("index: newest", "nothing is published yet")
        return
    project = max(wheels, key=lambda wheel: (wheel.stat().st_mtime, wheel.name)).parent.name
    result = crawl(host.simple_url, {project}, http)
    if result.problems:
        first = result.problems[0]
        hint = f"farm index crawl {host.simple_url}; then publish the project again"
        yield fail("index: newest", f"{project}: {first.url}: {first.cause}", hint)
    else:
        yield ok("index: newest", f"{project}: its page is right about {counted(len(result.files), 'file')}")


def pages(tree: IndexTree, host: IndexHost, http: requests.Session) -> Iterator[Check]:
    """Compare each served page with the local tree's."""
    wrong = []
    projects = tree.projects()
    for project in ["", *projects]:
        page = f"{project}/" if project else ""
        local = tree.root / "merged" / page / "index.html"
        if not project or not local.exists():
            local = tree.simple / page / "index.html"
        if local.exists() and not _same(local, urljoin(host.simple_url, page), http):
            wrong.append(page or "the root")
    if wrong:
        shown = ", ".join(wrong[:_SHOWN]) + (
            f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        )
        yield fail(
            "index: pages",
            f"served otherwise than in {tree.root}: {shown}",
            "publish again any wheel that is there: all pages go along",
        )
    else:
        yield ok("index: pages", f"{len(projects)} projects are served as they are in {tree.root}")


def _same(local: Path, url: str, http: requests.Session) -> bool:
    try:
        response = http.get(url, timeout=_ASK_S, headers={"Accept": "text/html"}, allow_redirects=False)
    except requests.RequestException:
        return False
    ours = hashlib.sha256(local.read_bytes()).digest()
    return response.ok and hashlib.sha256(response.content).digest() == ours


def space(host: IndexHost, free: Callable[[], int]) -> Iterator[Check]:
    """Check the disk that the index is on; F28: a full one stopped a farm for weeks."""
    where = f"{host.root} on {host.address.name}"
    yield judge_space("index: space", free(), where, "make room there, or let old versions go")


def free_there(inventory: Path, host: IndexHost) -> int:
    """Ask the index host, as Ansible logs in there, for free bytes: who publishes may run no command there.

    Raises:
        NodeError: it can't be asked.
    """
    out, err, code = ansible_runner.run_command(
        executable_cmd="ansible",
        cmdline_args=[
            *("-i", str(inventory.resolve()), host.address.name),
            *("-m", "ansible.builtin.command", "-a", f"df --block-size=1 --output=avail {host.root}"),
        ],
        envvars={"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        quiet=True,
        timeout=60,
    )
    return free_said(host.address.name, out or err, code)


def free_said(host: str, output: str, code: int) -> int:
    """Read what Ansible shows of ``df`` (pure). Raises NodeError where that is no number."""
    words = output.split()
    if code != 0 or not words or not words[-1].isdecimal():
        said = printable(" ".join(words))[:_LONGEST] or f"code {code}"
        hint = f"see that Ansible may log in there: ansible -i INVENTORY {host} -m ping"
        raise NodeError(host, f"Ansible can't ask for its free space: {said}", hint=hint)
    return int(words[-1])


def certificate(host: IndexHost, now: float) -> Iterator[Check]:
    """Check that an https index's certificate is good, and for how long."""
    name, parts = "index: certificate", urlsplit(host.url)
    if parts.scheme != "https" or not parts.hostname:
        yield ok(name, "none: the index is plain http")
        return
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 443), timeout=_ASK_S) as link,
            context.wrap_socket(link, server_hostname=parts.hostname) as secure,
        ):
            found = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        yield fail(name, f"clients refuse it: {error.verify_message}", "renew it, or name its whole chain")
        return
    ends = ssl.cert_time_to_seconds(str(found["notAfter"]))
    yield ends_on(name, datetime.fromtimestamp(ends, UTC), now, "renew it")


def ends_on(name: str, end: datetime, now: float, hint: str) -> Check:
    """Judge an end by how near it is (pure)."""
    left = (end.timestamp() - now) / 86400
    if left < 0:
        return fail(name, f"ended on {end:%Y-%m-%d}", hint)
    said = f"good until {end:%Y-%m-%d}, {left:.0f} days"
    return warn(name, said, hint) if left < SOON_DAYS else ok(name, said)


def why(error: requests.RequestException) -> str:
    """Return what is wrong in few words."""
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    return f"can't be read ({type(error).__name__})"
