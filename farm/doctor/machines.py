"""The inventory, the builders and the clean room."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import paramiko

from farm.cleanroom import CleanRoom
from farm.dispatch.health import MAX_SKEW_S
from farm.doctor.model import Check, fail, ok, warn
from farm.errors import InputError, NodeError
from farm.nodes import SSH_PORT, Address, Facts, Fleet, Node, twins, unfit
from farm.service import Probe
from farm.store import Mark, NodeMark

SKEW_S: Final = 30.0
"""A board whose clock is further off is soon in quarantine; asking it takes some seconds, too."""

LONG_S: Final = 86400.0
OLD_ROOM_S: Final = 120 * 86400.0
"""Debian's point releases come every two months or so."""


def inventory(fleet: Fleet, source: str) -> Iterator[Check]:
    """Check that there is all that a dispatch needs; that it can be read was seen before."""
    builders = ", ".join(node.name for node in fleet.builders)
    yield ok("inventory: builders", f"{source}: {builders}")
    index = fleet.require_index()  # raises, with the fix
    yield ok("inventory: index", f"{index.address.name}, {index.url}")


def keys(addresses: Sequence[Address]) -> Iterator[Check]:
    """Check the controller's key and the pinned keys of all hosts."""
    for path in dict.fromkeys(address.key_file for address in addresses):
        if not path.is_file():
            yield fail(
                "inventory: controller's key",
                f"{path}: no such file",
                "ansible-playbook playbooks/controller.yml",
            )
        elif stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield fail("inventory: controller's key", f"{path}: others may read it", f"chmod 600 {path}")
        else:
            yield ok("inventory: controller's key", str(path))
    missing = [address for address in addresses if not _pinned(address)]
    for address in missing:
        port = f" -p {address.port}" if address.port != SSH_PORT else ""
        hint = (
            f"ssh-keyscan -t ed25519{port} {address.host} >> {address.known_hosts}"
            " (compare the fingerprint on the machine)"
        )
        yield fail("inventory: host keys", f"{address.name}: {address.host} has no key in known_hosts", hint)
    if addresses and not missing:
        yield ok("inventory: host keys", f"{len(addresses)} hosts are pinned")


def _pinned(address: Address) -> bool:
    if not address.known_hosts.is_file():
        return False
    try:
        known = paramiko.HostKeys(str(address.known_hosts))
    except paramiko.SSHException as error:
        hint = "remove the line that ssh-keygen -l -f can't read"
        raise InputError(f"{address.known_hosts}: {error}", hint=hint) from error
    plain = address.host if address.port == SSH_PORT else f"[{address.host}]:{address.port}"
    return known.lookup(plain) is not None


def nodes(
    builders: Sequence[Node],
    probes: Mapping[str, Probe],
    marks: Mapping[str, Mapping[Mark, NodeMark]],
    now: float,
) -> Iterator[Check]:
    """Check what builders said of themselves (pure). ``now`` is when they had answered."""
    facts = {name: probe.answer for name, probe in probes.items() if isinstance(probe.answer, Facts)}
    for name, other in twins(facts).items():
        hint = "give each a host name and a machine id of its own (F11)"
        yield fail(f"node {name}", f"says that it is the same machine as {other}", hint)
    for node in builders:
        probe = probes[node.name]
        found = list(_node(node, probe, now))
        found += _marks(node.name, marks.get(node.name, {}), now)
        if found:
            yield from found
        elif isinstance(probe.answer, Facts):
            said = f"{probe.answer.model or probe.answer.os}, farm-node {probe.answer.runner_version}"
            yield ok(f"node {node.name}", said)


def _node(node: Node, probe: Probe, now: float) -> Iterator[Check]:
    name, answer, provision = f"node {node.name}", probe.answer, f"farm provision {node.name}"
    if isinstance(answer, NodeError):  # another version of farm-node is one, too
        yield fail(name, answer.message.removeprefix(f"{node.name}: "), answer.hint or provision)
        return
    if why := unfit(answer, node):
        yield fail(name, why, provision)
    skew = abs(answer.clock - now)
    if skew > SKEW_S:
        verdict = fail if skew > MAX_SKEW_S else warn
        yield verdict(name, f"its clock is {skew:.0f} s off this controller's", "let NTP keep both clocks")
    if answer.units:
        yield warn(name, f"builds have no limit of memory and processes: {answer.units}", provision)
    if answer.speed is None:
        yield warn(name, "its speed was never measured, so time limits are guessed", provision)
    for warning in probe.warnings:
        yield warn(name, warning, "see docs/real-boards.md")


def _marks(name: str, marks: Mapping[Mark, NodeMark], now: float) -> Iterator[Check]:
    for mark in marks.values():
        days = (now - mark.since) / 86400
        if now - mark.since > LONG_S or mark.mark is Mark.QUARANTINED:
            said = f"{mark.mark} for {days:.1f} days: {mark.reason}"
            yield warn(f"node {name}", said, f"mend it, then: farm resume {name}")


def clean_room(room: CleanRoom, *, wanted: bool) -> Iterator[Check]:
    """Check that wheels can be tried, in a system that is not of last year."""
    if not wanted:
        hint = "remove farm_clean_room from the inventory"
        yield warn("clean room", "the inventory publishes wheels that were never run", hint)
        return
    room.check()  # raises, with the fix
    made = (room.userland / "etc" / "passwd").stat().st_mtime  # the role writes it last
    days, pythons = (time.time() - made) / 86400, ", ".join(room.pythons())
    if time.time() - made > OLD_ROOM_S:
        hint = f"rm -r {room.userland.resolve()}; ansible-playbook playbooks/controller.yml"
        yield warn("clean room", f"its Debian is {days:.0f} days old", hint)
    else:
        yield ok("clean room", f"{pythons}; its Debian is {days:.0f} days old")
