"""Each check, both ways: what is well, and what is not, with the fix."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NamedTuple

import paramiko
import pytest

from farm.cleanroom import CleanRoom, RoomError
from farm.doctor import Check, Level, controller, machines, served
from farm.doctor import timers as timing
from farm.doctor.model import fail, guarded
from farm.doctor.tokens import tokens
from farm.errors import InputError, NodeError
from farm.nodes import Address, Facts, Fleet, IndexHost, Node
from farm.paths import Paths
from farm.provenance.key import signing_key
from farm.registry import Registry
from farm.service import Probe
from farm.store import Job, Mark, NodeMark, Store, controller_lock
from farm.tryout import Fate, Tried, compared, save
from tests.unit.plankit import spec
from tests.unit.test_nodes import FACTS, NODE

NOW = 1_800_000_000.0
DAY = 86400.0
HOST = IndexHost(Address("wheels", "h", 22, "u", Path("/k"), Path("/h")), "/srv", "http://index.test")


class Status(NamedTuple):
    """What systemd says of a timer and its service."""

    load: str = "loaded"
    active: str = "active"
    result: str = "success"


def only(checks: Iterable[Check]) -> Check:
    (check,) = checks
    assert (check.level is Level.OK) == (not check.hint), "what is not well says how to mend it"
    return check


def levels(checks: Iterable[Check]) -> list[Level]:
    return [check.level for check in checks]


def test_programs() -> None:
    assert only(controller.programs(lambda name: f"/usr/bin/{name}")).level is Level.OK
    missing = only(controller.programs(lambda name: None if name == "rsync" else name))
    assert (missing.level, missing.hint) == (Level.FAIL, "apt-get install rsync")
    assert missing.evidence == "not there: rsync"


def test_packages() -> None:
    wanted = ["one>=1,<2", "two", 'old; python_version < "3"', 'tool; extra == "dev"']
    assert only(controller.packages(wanted, lambda _: "1.5")).evidence.startswith("2 as")
    wrong = only(controller.packages(wanted, lambda _: "2.0"))
    assert (wrong.level, wrong.evidence) == (Level.FAIL, "one is 2.0, not <2,>=1")

    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    assert "two is not there" in only(controller.packages(wanted, none)).evidence


@pytest.mark.parametrize(("free", "level"), [(100, Level.OK), (5, Level.WARN), (1, Level.FAIL)])
def test_f28_disk(free: int, level: Level, tmp_path: Path) -> None:
    found = only(controller.disk(tmp_path / "not" / "yet", lambda _: free << 30))
    assert found.level is level
    assert f"{free}.0 GiB" in found.evidence


def test_clock() -> None:
    assert controller.clock_said("yes").level is Level.OK
    assert "set-ntp" in controller.clock_said("no").hint
    assert only(controller.clock(Path("/nosuch"))).level is Level.OK


def test_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths(tmp_path / "state")
    assert "does not exist yet" in only(controller.state(paths)).evidence
    paths.state.mkdir(mode=0o755)
    assert only(controller.state(paths)).level is Level.OK
    paths.state.chmod(0o775)
    assert only(controller.state(paths)).hint == f"chmod go-w {paths.state}"
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert "not 4711" in only(controller.state(paths)).evidence


def test_signing_key(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    assert only(controller.signing(paths)).level is Level.OK
    assert not paths.signing_key.exists(), "looking makes none"
    signing_key(paths.signing_key)
    assert only(controller.signing(paths)).level is Level.OK
    paths.signing_key.chmod(0o644)
    found = only(guarded("key", lambda: controller.signing(paths)))
    assert (found.level, found.hint) == (Level.FAIL, f"chmod 600 {paths.signing_key}")


def test_database(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    assert only(controller.database(paths)).evidence == "none yet"
    store = Store(paths.database)
    for number in range(300):
        store.enqueue(spec(version=f"1.{number}"))
    store.close()
    assert only(controller.database(paths)).level is Level.OK
    with closing(sqlite3.connect(paths.database)) as db:
        db.execute("PRAGMA user_version = 99")
    assert "newer farm" in only(controller.database(paths)).evidence
    data = bytearray(paths.database.read_bytes())
    data[4096:12000] = b"x" * (12000 - 4096)
    paths.database.write_bytes(data)
    assert "backup" in only(controller.database(paths)).hint
    paths.database.write_bytes(b"no database at all, but text" * 50)
    assert only(controller.database(paths)).level is Level.FAIL


def test_queue(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "state")
    assert only(controller.queue(paths, [])).level is Level.OK
    store = Store(paths.database)
    jobs: list[Job] = [store.enqueue(spec())]
    store.close()
    assert only(controller.queue(paths, [])).level is Level.OK
    waiting = only(controller.queue(paths, jobs))
    assert (waiting.level, waiting.hint) == (Level.WARN, "farm dispatch")
    assert "1 queued" in waiting.evidence
    with controller_lock(paths.lock):
        held = only(controller.queue(paths, jobs))
    assert held.level is Level.OK
    assert f"pid {os.getpid()}" in held.evidence


def test_inventory() -> None:
    assert levels(machines.inventory(Fleet((NODE,), HOST), "site")) == [Level.OK, Level.OK]
    *_, missing = guarded("inventory", lambda: machines.inventory(Fleet((NODE,), None), "site"))
    assert (missing.level, "no host in group 'index'" in missing.evidence) == (Level.FAIL, True)


def test_keys(tmp_path: Path) -> None:
    address = Address("f3", "192.0.2.1", 2222, "u", tmp_path / "key", tmp_path / "known_hosts")
    no_key, no_pin = machines.keys([address])
    assert (no_key.level, no_pin.level) == (Level.FAIL, Level.FAIL)
    assert "ssh-keyscan -t ed25519 -p 2222 192.0.2.1 >>" in no_pin.hint
    address.key_file.touch(0o644)
    assert next(machines.keys([address])).hint == f"chmod 600 {address.key_file}"
    address.key_file.chmod(0o600)
    known = paramiko.HostKeys()
    known.add("[192.0.2.1]:2222", "ecdsa-sha2-nistp256", paramiko.ECDSAKey.generate())
    known.save(str(address.known_hosts))
    assert levels(machines.keys([address])) == [Level.OK, Level.OK]
    assert levels(machines.keys([replace(address, port=22)])) == [Level.OK, Level.FAIL], (
        "another port is another host"
    )


def probed(
    answer: Facts | NodeError, marks: dict[Mark, NodeMark] | None = None, *warnings: str
) -> list[Check]:
    probe = Probe(answer, warnings)
    return list(machines.nodes([NODE], {"f3": probe}, {"f3": marks or {}}, NOW))


WELL = replace(FACTS, clock=NOW - 5)


def test_a_node_that_is_well() -> None:
    assert only(probed(WELL)).level is Level.OK


@pytest.mark.parametrize(
    ("answer", "level", "evidence", "hint"),
    [
        (NodeError("f3", "no route", hint="plug it in"), Level.FAIL, "no route", "plug it in"),
        (NodeError("f3", "gone"), Level.FAIL, "gone", "farm provision f3"),
        (replace(WELL, machine="x86_64"), Level.FAIL, "not riscv64", "farm provision f3"),
        (replace(WELL, clock=NOW - 100), Level.WARN, "100 s off", "NTP"),
        (replace(WELL, clock=NOW + 1000), Level.FAIL, "1000 s off", "NTP"),
        (replace(WELL, speed=None), Level.WARN, "never measured", "farm provision f3"),
        (replace(WELL, units="no user manager"), Level.WARN, "no user manager", "farm provision f3"),
    ],
)
def test_a_node_that_is_not(answer: Facts | NodeError, level: Level, evidence: str, hint: str) -> None:
    found = only(probed(answer))
    assert found.level is level
    assert evidence in found.evidence
    assert hint in found.hint


def test_what_keeps_a_node_out() -> None:
    def mark(kind: Mark, days: float) -> dict[Mark, NodeMark]:
        return {kind: NodeMark("f3", kind, "why", NOW - days * DAY)}

    assert only(probed(WELL, mark(Mark.DRAINED, 0.5))).level is Level.OK, "somebody is at it"
    drained = only(probed(WELL, mark(Mark.DRAINED, 3)))
    assert (drained.level, "drained for 3.0 days: why" in drained.evidence) == (Level.WARN, True)
    assert only(probed(WELL, mark(Mark.QUARANTINED, 0))).hint.endswith("farm resume f3")
    assert only(probed(WELL, None, "connecting took 9 s")).level is Level.WARN


def test_f11_twins() -> None:
    other = Node(replace(NODE.address, name="sg"), 1, "/root")
    probes = {"f3": Probe(WELL, ()), "sg": Probe(WELL, ())}
    found = [check for check in machines.nodes([NODE, other], probes, {}, NOW) if check.level is Level.FAIL]
    assert "same machine" in only(found).evidence


def test_clean_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = CleanRoom.at(tmp_path)
    assert only(machines.clean_room(room, wanted=False)).level is Level.WARN
    missing = only(guarded("clean room", lambda: machines.clean_room(room, wanted=True)))
    assert "playbooks/controller.yml" in missing.hint
    monkeypatch.setattr(CleanRoom, "check", lambda _: None)
    passwd = room.userland / "etc" / "passwd"
    passwd.parent.mkdir(parents=True)
    passwd.touch()
    assert only(machines.clean_room(room, wanted=True)).level is Level.OK
    os.utime(passwd, (0, NOW - 300 * DAY))
    assert "controller.yml" in only(machines.clean_room(room, wanted=True)).hint


def test_the_index_clock() -> None:
    assert served.clock("Fri, 15 Jan 2027 08:00:10 GMT", NOW).level is Level.OK
    assert "50 s off" in served.clock("Fri, 15 Jan 2027 08:00:50 GMT", NOW).evidence
    assert served.clock("", NOW).level is Level.WARN


@pytest.mark.parametrize(("free", "level"), [(100, Level.OK), (5, Level.WARN), (1, Level.FAIL)])
def test_f28_space_of_the_index(free: int, level: Level) -> None:
    assert only(served.space(HOST, lambda: free << 30)).level is level


def test_what_ansible_says_of_free_space() -> None:
    assert served.free_said("wheels", "wheels | CHANGED | rc=0 >>\n     Avail\n12345", 0) == 12345
    for output, code in (("", 4), ("wheels | UNREACHABLE! => {}", 4), ("no number", 0)):
        with pytest.raises(NodeError, match="free space"):
            served.free_said("wheels", output, code)


@pytest.mark.parametrize(("days", "level"), [(31, Level.OK), (29, Level.WARN), (-1, Level.FAIL)])
def test_an_end_that_is_near(days: int, level: Level) -> None:
    end = datetime.fromtimestamp(NOW, UTC) + timedelta(days=days)
    assert only([served.ends_on("x", end, NOW, "renew it")]).level is level


def test_plain_http_has_no_certificate() -> None:
    assert only(served.certificate(HOST, NOW)).level is Level.OK


URL = "https://gitlab.example.org/"
SHELF = Registry(
    name="shelf", url=URL, simple_url=URL, token_env="TOKEN", scope="write_package_registry", expires="never"
)


def token(change: dict[str, object], environment: dict[str, str] | None = None) -> list[Check]:
    registry = Registry.model_validate({**SHELF.model_dump(), **change})
    found = list(tokens([registry], Path("/nosuch"), NOW, environment or {"TOKEN": "SECRET"}))
    assert "SECRET" not in str(found)
    return [check for check in found if check.level is not Level.OK]


def test_a_token_that_is_well() -> None:
    assert token({}) == []
    assert token({"expires": "2027-03-01"}) == []


@pytest.mark.parametrize(
    ("change", "environment", "level", "name"),
    [
        ({}, {"OTHER": "x"}, Level.WARN, "token"),
        ({"token_env": None, "token_vault": "vault"}, None, Level.FAIL, "token"),
        ({}, {"TOKEN": "SECRET and more"}, Level.FAIL, "token"),
        ({"expires": None}, None, Level.WARN, "expiry"),
        ({"expires": "2027-02-01"}, None, Level.WARN, "expiry"),
        ({"expires": "2027-01-14"}, None, Level.FAIL, "expiry"),
        ({"scope": None}, None, Level.WARN, "scope"),
        ({"scope": "api, read_user"}, None, Level.WARN, "scope"),
        ({"scope": "Entire account"}, None, Level.WARN, "scope"),
    ],
)
def test_a_token_that_is_not(
    change: dict[str, object], environment: dict[str, str] | None, level: Level, name: str
) -> None:
    found = only(token(change, environment))
    assert (found.level, found.name) == (level, f"registry shelf: {name}")


def test_a_token_is_good_on_its_last_day() -> None:
    today = datetime.fromtimestamp(NOW, UTC).date().isoformat()
    assert only(token({"expires": today})).level is Level.WARN


def show(status: Status) -> Callable[[str], dict[str, str]]:
    def asked(unit: str) -> dict[str, str]:
        if unit.endswith(".timer"):
            return {"LoadState": status.load, "ActiveState": status.active}
        return {"Result": status.result, "ExecMainStatus": "6"}

    return asked


@pytest.mark.parametrize(
    ("status", "level", "doctors"),
    [
        (Status(), Level.OK, Level.OK),
        (Status(result=""), Level.OK, Level.OK),
        (Status(load="not-found"), Level.WARN, Level.WARN),
        (Status(active="inactive"), Level.FAIL, Level.FAIL),
        (Status(result="exit-code"), Level.FAIL, Level.OK),
    ],
)
def test_timers(status: Status, level: Level, doctors: Level, tmp_path: Path) -> None:
    found = list(timing.timers(show(status), tmp_path))
    assert levels(found) == [level, level, doctors], "what the doctor found last time, it says itself"
    assert all(check.hint for check in found if check.level is not Level.OK)


def test_no_systemd_no_timers() -> None:
    assert only(timing.timers(systemd=Path("/nosuch"))).level is Level.WARN


@pytest.mark.parametrize(
    ("error", "evidence"),
    [
        (InputError("bad", hint="mend"), "bad"),
        (RoomError("no room", hint="make it"), "no room"),
        (InputError("without a hint"), "without"),
        (PermissionError(13, "Permission denied", "x"), "Permission denied"),
    ],
)
def test_what_can_not_be_looked_at_is_a_failure(error: Exception, evidence: str) -> None:
    def look() -> Iterator[Check]:
        yield fail("first", "it", "fix")
        raise error

    first, second = guarded("second", look)
    assert first.name == "first"
    assert (second.name, second.level) == ("second", Level.FAIL)
    assert evidence in second.evidence
    assert second.hint


def test_the_last_try(tmp_path: Path) -> None:
    path = tmp_path / "tried.json"
    assert "never tried" in only(timing.last_try(path, NOW)).evidence
    well = Tried("demo", "1.0", "cp313", "newest", "26.3", Fate.WELL, "fine")
    save(path, None, compared(None, [well], NOW), whole=True)
    assert only(timing.last_try(path, NOW + DAY)).level is Level.OK
    assert only(timing.last_try(path, NOW + 9 * DAY)).level is Level.WARN
    save(path, None, compared(None, [replace(well, fate=Fate.NOT_IMPORTED)], NOW), whole=True)
    found = only(timing.last_try(path, NOW))
    assert (found.level, "demo 1.0 (not imported)" in found.evidence) == (Level.FAIL, True)
    path.write_text("nonsense")
    assert "remove it" in only(guarded("x", lambda: timing.last_try(path, NOW))).hint
