"""The farm's machines: read from the Ansible inventory, joined with what was probed on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from farm.errors import InputError, WheelError
from farm.verify.isa import beyond_rv64gc, parse_arch

BUILDERS: Final = "builders"
INDEX: Final = "index"
GC: Final = frozenset("imafdc")
SSH_PORT: Final = 22
UNSAFE: Final = "__ansible_unsafe"
MIN_DISK_BYTES: Final = 2 << 30
SANDBOX: Final = "bubblewrap"
ALLOW: Final = "farm_allow_unsandboxed_builds"
CLEAN_ROOM: Final = "farm_clean_room"
PRIVATE_NAMES: Final = "index_server_private_names"
WANTED: Final = "farm_wanted"
PUBLISH_LOGS: Final = "farm_publish_logs"


@dataclass(frozen=True, slots=True)
class Address:
    """How a machine is reached: exactly what Ansible uses, pinned host keys included."""

    name: str
    host: str
    port: int
    user: str
    key_file: Path
    known_hosts: Path


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that builds."""

    address: Address
    slots: int | None
    """The most builds at once; None: its cores and memory decide."""
    root: str
    labels: frozenset[str] = frozenset()
    """What recipes may ask for by ``features``, besides toolchains and ISA extensions."""
    unsandboxed: bool = False
    """Whether builds may run where there is no sandbox; the inventory says so in so many words."""

    @property
    def name(self) -> str:
        """The inventory's name."""
        return self.address.name


@dataclass(frozen=True, slots=True)
class IndexHost:
    """The machine that serves the index."""

    address: Address
    root: str
    url: str
    clean_room: bool = True
    """Whether wheels are installed, imported and tested in the clean room before they are published."""
    private_names: frozenset[str] = frozenset()
    """Names of projects, ``*`` for any part of one, that upstream is never asked for."""
    wanted: str = ""
    """File of requirements that `farm dispatch --all` builds besides what is hosted, beside the inventory."""
    publish_logs: bool = True
    """Whether the web pages have the logs of builds and proofs."""

    @property
    def simple_url(self) -> str:
        """What pip is given as ``--index-url``."""
        return f"{self.url.rstrip('/')}/simple/"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node says of itself."""

    runner_version: int
    hostname: str
    machine: str
    machine_id: str
    boot_id: str
    kernel: str
    os: str
    isa: str
    cores: int
    memory_bytes: int
    disk_free_bytes: int
    load: float
    clock: float
    gcc: str
    gcc_march: str
    rustc: str
    compilers: Mapping[str, str]
    """For which processor each compiler was built: under emulation they may run natively."""
    pythons: tuple[str, ...]
    apt_packages: frozenset[str]
    model: str
    """Which board it is; ``virtual`` under user emulation."""
    selftest: str
    """Why it can't compile, link and write a small program, in one line; empty if it can."""
    units: str
    """Why systemd, which runs it, can't run its builds, so that nothing limits their memory and processes;
    empty if it can, or does not run it."""
    sandbox: str
    """What builds are shut in by, ``bubblewrap``, or why they can't be."""
    speed: float | None
    """Of one core against the reference core, as provisioning measured it; None before that."""

    @property
    def sandboxed(self) -> bool:
        """Whether builds are shut in."""
        return self.sandbox == SANDBOX

    @property
    def extensions(self) -> frozenset[str]:
        """The ISA extensions it says it has, as names in lower case (``v``, ``zba``)."""
        return _extensions(self.isa)

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """Read the object that ``farm-node probe`` prints."""
        return cls.from_mapping(json.loads(text))

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Facts:
        """Read the object that ``farm-node`` answers.

        Raises:
            TypeError: a value has another type than it must have.
            KeyError: one is missing.
        """
        values = {name: content[name] for name in cls.__dataclass_fields__}
        for name, kind in _FACT_KINDS.items():
            if not isinstance(values[name], kind) or isinstance(values[name], bool):
                raise TypeError(f"{name} is {values[name]!r}")
        for name, collection in (("pythons", tuple), ("apt_packages", frozenset)):
            if not all(isinstance(item, str) for item in values[name]):
                raise TypeError(f"{name} holds something else than texts")
            values[name] = collection(values[name])
        return cls(**values)


_FACT_KINDS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(
        ("hostname", "machine", "machine_id", "boot_id", "kernel", "os", "isa", "gcc", "gcc_march", "rustc"),
        str,
    ),
    **dict.fromkeys(("model", "selftest", "units", "sandbox"), str),
    **dict.fromkeys(("runner_version", "cores", "memory_bytes", "disk_free_bytes"), int),
    **dict.fromkeys(("load", "clock"), int | float),
    **dict.fromkeys(("pythons", "apt_packages"), list),
    "speed": int | float | None,
    "compilers": dict,
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """All machines of an inventory."""

    builders: tuple[Node, ...]
    index: IndexHost | None

    def require_index(self) -> IndexHost:
        """Return the index host.

        Raises:
            InputError: the inventory has none.
        """
        if self.index is None:
            raise InputError(
                f"the inventory has no host in group {INDEX!r}", hint="add one; see inventory/example"
            )
        return self.index


def read_fleet(inventory: Path) -> Fleet:
    """Read the machines of an Ansible inventory (file or directory).

    Raises:
        InputError: it is missing or wrong, or a host lacks a variable the farm needs.
    """
    return fleet_of(read_inventory(inventory), str(inventory))


def read_inventory(inventory: Path) -> Mapping[str, object]:
    """Return what ``ansible-inventory --list`` says of an inventory (file or directory).

    Raises:
        InputError: it is missing or wrong.
    """
    if not inventory.exists():
        raise InputError(f"{inventory}: no such inventory", hint="give one with --inventory")
    import ansible_runner  # noqa: PLC0415  # 5 MiB that only who reads an inventory needs

    try:
        output, errors = ansible_runner.get_inventory(
            action="list", inventories=[str(inventory.resolve())], response_format="json", quiet=True
        )
    except ansible_runner.exceptions.AnsibleRunnerException as error:
        raise InputError(
            f"{inventory}: {error}", hint="is Ansible installed beside `farm`? `make venv`"
        ) from error
    if not isinstance(output, dict):
        raise InputError(f"{inventory}: ansible-inventory can't read it: {errors or output}")
    return output


def index_variables(inventory: Mapping[str, object]) -> Mapping[str, object]:
    """Return the variables of the index host, as they were written; none where there is no such host."""
    meta = inventory.get("_meta")
    hostvars = _plain(meta.get("hostvars", {})) if isinstance(meta, dict) else {}
    hosts = _members(inventory, INDEX)
    found = hostvars.get(hosts[0], {}) if hosts and isinstance(hostvars, dict) else {}
    return found if isinstance(found, dict) else {}


def fleet_of(inventory: Mapping[str, object], source: str) -> Fleet:
    """Turn ``ansible-inventory --list`` into a fleet (pure)."""
    meta = inventory.get("_meta")
    hostvars = _plain(meta.get("hostvars", {})) if isinstance(meta, dict) else {}
    if not isinstance(hostvars, dict):
        raise InputError(f"{source}: ansible-inventory gave no host variables")
    builders = tuple(_node(name, hostvars.get(name, {}), source) for name in _members(inventory, BUILDERS))
    if not builders:
        raise InputError(
            f"{source}: no host in group {BUILDERS!r}", hint="add your boards; see inventory/example"
        )
    index = [_index_host(name, hostvars.get(name, {}), source) for name in _members(inventory, INDEX)]
    return Fleet(builders, index[0] if index else None)


def _plain(value: object) -> object:
    """Return a value as it was written: Ansible wraps texts that came out of a template."""
    if isinstance(value, dict):
        if value.keys() == {UNSAFE}:
            return value[UNSAFE]
        return {key: _plain(item) for key, item in value.items()}
    return value


def _members(inventory: Mapping[str, object], group: str) -> list[str]:
    content = inventory.get(group, {})
    if not isinstance(content, dict):
        return []
    names = list(content.get("hosts", []))
    for child in content.get("children", []):
        names += [name for name in _members(inventory, child) if name not in names]
    return names


def _node(name: str, variables: Mapping[str, object], source: str) -> Node:
    need = _Needs(name, variables, source)
    return Node(
        address=_address(name, variables, source, user=need("farm_build_user")),
        slots=need.number("farm_slots") if "farm_slots" in variables else None,
        root=need("farm_node_dir"),
        labels=need.words("farm_labels") if "farm_labels" in variables else frozenset(),
        unsandboxed=ALLOW in variables and need.flag(ALLOW),
    )


def _index_host(name: str, variables: Mapping[str, object], source: str) -> IndexHost:
    need = _Needs(name, variables, source)
    address = _address(name, variables, source, user=need("farm_index_user"))
    return IndexHost(
        address=address,
        root=need("farm_index_root"),
        url=need("farm_index_url"),
        clean_room=CLEAN_ROOM not in variables or need.flag(CLEAN_ROOM),
        private_names=need.words(PRIVATE_NAMES) if PRIVATE_NAMES in variables else frozenset(),
        wanted=need(WANTED) if WANTED in variables else "",
        publish_logs=PUBLISH_LOGS not in variables or need.flag(PUBLISH_LOGS),
    )


def _address(name: str, variables: Mapping[str, object], source: str, *, user: str) -> Address:
    need = _Needs(name, variables, source)
    return Address(
        name=name,
        host=need("ansible_host") if "ansible_host" in variables else name,
        port=need.number("ansible_port") if "ansible_port" in variables else SSH_PORT,
        user=user,
        key_file=Path(need("ansible_ssh_private_key_file")).expanduser(),
        known_hosts=Path(need("farm_known_hosts")).expanduser(),
    )


@dataclass(frozen=True, slots=True)
class _Needs:
    """Looks up a variable that must be there."""

    host: str
    variables: Mapping[str, object]
    source: str

    def __call__(self, key: str) -> str:
        if key not in self.variables:
            raise InputError(
                f"{self.source}: host {self.host} has no variable {key}",
                hint="set it in group_vars; inventory/example shows all of them",
            )
        value = str(self.variables[key])
        if "{{" in value:
            raise InputError(
                f"{self.source}: {key} of host {self.host} is a template that nothing evaluates: {value}",
                hint="name it in a constructed inventory by the hosts; see inventory/virtual/resolved.yml",
            )
        return value

    def words(self, key: str) -> frozenset[str]:
        """Return a list of words."""
        value = self.variables[key]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(
                f"{self.source}: host {self.host}: {key} is {value!r}, not a list of words",
                hint=f"write it as {key}: [one, another]",
            )
        return frozenset(value)

    def flag(self, key: str) -> bool:
        """Return true or false: only YAML's own, for a word may mean anything."""
        value = self.variables[key]
        if not isinstance(value, bool):
            raise InputError(
                f"{self.source}: host {self.host}: {key} is {value!r}, not true or false",
                hint=f"write {key}: true, without quotes",
            )
        return value

    def number(self, key: str) -> int:
        """Return a whole number from 1."""
        text = self(key)
        if not text.isdecimal() or int(text) == 0:
            raise InputError(
                f"{self.source}: host {self.host}: {key} is {text!r}, not a number from 1",
                hint="write a plain number there",
            )
        return int(text)


def unfit(facts: Facts, node: Node) -> str | None:
    """Return why a node must not be given jobs, or None where it may (F18, F20)."""
    beyond = _beyond(facts.gcc_march)
    checks = (
        (facts.machine != "riscv64", f"it is a {facts.machine} machine, not riscv64"),
        (not _extensions(facts.isa) >= GC, f"its ISA {facts.isa!r} is less than rv64gc"),
        (not facts.gcc, "it has no gcc; run `farm provision`"),
        (bool(facts.selftest), f"it can't compile: {facts.selftest}"),
        (bool(beyond), f"gcc's default -march {facts.gcc_march} is beyond rv64gc; run `farm provision`"),
        (len(_c_compilers(facts)) > 1, f"its compilers are a mixture: {facts.compilers}; provision it again"),
        (
            facts.disk_free_bytes < MIN_DISK_BYTES,
            f"only {facts.disk_free_bytes >> 20} MiB of disk are free; make room",
        ),
        (
            not (facts.sandboxed or node.unsandboxed),
            f"it has no sandbox: {facts.sandbox}; `farm provision` it, or set {ALLOW}: true in the inventory",
        ),
    )
    return next((why for failed, why in checks if failed), None)


def _c_compilers(facts: Facts) -> set[str]:
    return {machine for name, machine in facts.compilers.items() if name != "rustc"}


def _extensions(isa: str) -> frozenset[str]:
    try:
        return parse_arch(isa).extensions
    except WheelError:
        return frozenset()


def _beyond(march: str) -> tuple[str, ...]:
    try:
        return beyond_rv64gc(parse_arch(march))
    except WheelError:
        return (march,)


def twins(facts: Mapping[str, Facts]) -> dict[str, str]:
    """Return nodes that share a host name or machine id with another one, and with which (F11)."""
    found: dict[str, str] = {}
    names = sorted(facts)
    for position, one in enumerate(names):
        for other in names[:position]:
            mine, theirs = facts[one], facts[other]
            same_id = mine.machine_id == theirs.machine_id != ""
            if mine.hostname == theirs.hostname or same_id:
                found[one] = other
    return found
