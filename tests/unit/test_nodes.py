from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import InputError
from farm.nodes import Address, Facts, Node, fleet_of, read_fleet, twins, unfit

BUILDER: dict[str, object] = {
    "ansible_host": "10.0.0.11",
    "ansible_port": 2222,
    "ansible_ssh_private_key_file": "/keys/farm",
    "farm_known_hosts": "/keys/known_hosts",
    "farm_build_user": "builder",
    "farm_slots": 2,
    "farm_node_dir": "/var/lib/wheelfarm-node",
}
HOST: dict[str, object] = {
    "ansible_ssh_private_key_file": "/keys/farm",
    "farm_known_hosts": "/keys/known_hosts",
    "farm_index_user": "www",
    "farm_index_root": "/srv/wheels",
    "farm_index_url": "http://index:8080/",
}
FACTS = Facts(
    runner_version=3,
    hostname="f3-a",
    machine="riscv64",
    machine_id="a" * 32,
    boot_id="boot",
    kernel="6.12",
    os="Debian 13",
    isa="rv64imafdc_zicsr_zifencei",
    cores=8,
    memory_bytes=16 << 30,
    disk_free_bytes=100 << 30,
    load=0.0,
    clock=0.0,
    gcc="14.2.0",
    gcc_march="rv64gc",
    rustc="",
    compilers={"cc1": "riscv64", "as": "riscv64"},
    pythons=("cp313",),
    apt_packages=frozenset({"libffi-dev"}),
    model="Banana Pi BPI-F3",
    selftest="",
    units="",
    sandbox="bubblewrap",
    speed=1.0,
)
NODE = Node(Address("f3", "h", 22, "u", Path("/k"), Path("/h")), 2, "/root")


def inventory(**hosts: Mapping[str, object]) -> dict[str, object]:
    return {
        "_meta": {"hostvars": hosts},
        "all": {"children": ["ungrouped", "builders", "index"]},
        "builders": {"children": ["f3", "sg2044"]},
        "f3": {"hosts": ["f3-a", "f3-b"]},
        "sg2044": {"hosts": ["sg", "f3-a"]},
        "index": {"hosts": ["www"]},
    }


ALL: dict[str, Mapping[str, object]] = {
    "f3-a": BUILDER,
    "f3-b": {key: value for key, value in BUILDER.items() if not key.startswith("ansible_host")},
    "sg": {**BUILDER, "farm_slots": "4", "farm_labels": ["vector", "nvme"]},
    "www": HOST,
}


def test_groups_with_children() -> None:
    fleet = fleet_of(inventory(**ALL), "inv")
    assert [node.name for node in fleet.builders] == ["f3-a", "f3-b", "sg"], "each once"
    first = fleet.builders[0]
    assert first.address == Address(
        "f3-a", "10.0.0.11", 2222, "builder", Path("/keys/farm"), Path("/keys/known_hosts")
    )
    assert (first.slots, first.root) == (2, "/var/lib/wheelfarm-node")
    assert fleet.builders[1].address.host == "f3-b", "the inventory's name where no address is given"
    assert fleet.builders[2].slots == 4
    assert fleet.builders[2].labels == {"nvme", "vector"}
    assert fleet.require_index().simple_url == "http://index:8080/simple/"
    assert fleet.require_index().address.port == 22


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("f3-b", "farm_node_dir"),
        ("sg", "farm_known_hosts"),
        ("f3-a", "ansible_ssh_private_key_file"),
        ("www", "farm_index_url"),
    ],
)
def test_a_missing_variable_names_host_and_variable(host: str, key: str) -> None:
    hosts = {**ALL, host: {name: value for name, value in ALL[host].items() if name != key}}
    with pytest.raises(InputError, match=f"^inv: host {host} has no variable {key}$") as caught:
        fleet_of(inventory(**hosts), "inv")
    assert "inventory/example" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"), [("farm_slots", "two"), ("farm_slots", 0), ("ansible_port", "ssh")]
)
def test_a_number_that_is_none_names_host_and_variable(key: str, value: object) -> None:
    hosts = {**ALL, "sg": {**BUILDER, key: value}}
    with pytest.raises(InputError, match=f"^inv: host sg: {key} is .*, not a number"):
        fleet_of(inventory(**hosts), "inv")


def test_names_that_upstream_is_never_asked_for() -> None:
    def private(**more: object) -> frozenset[str]:
        return fleet_of(inventory(**{**ALL, "www": {**HOST, **more}}), "inv").require_index().private_names

    assert private() == frozenset()
    assert private(index_server_private_names=["acme-*", "house"]) == {"acme-*", "house"}
    with pytest.raises(InputError, match=r"^inv: host www: index_server_private_names is 'acme', not a list"):
        private(index_server_private_names="acme")


def test_logs_are_published_unless_the_inventory_says_no() -> None:
    def published(**more: object) -> bool:
        fleet = fleet_of(inventory(**{**ALL, "www": {**HOST, **more}}), "inv")
        return fleet.require_index().publish_logs

    assert published()
    assert not published(farm_publish_logs=False)
    with pytest.raises(InputError, match=r"^inv: host www: farm_publish_logs is 'no', not true or false"):
        published(farm_publish_logs="no")


@pytest.mark.parametrize("content", [{}, {"_meta": {"hostvars": {}}, "builders": {}}, {"builders": None}])
def test_no_builder(content: dict[str, object]) -> None:
    with pytest.raises(InputError, match="no host in group 'builders'"):
        fleet_of(content, "inv")


def test_no_index_is_an_error_only_when_it_is_needed() -> None:
    fleet = fleet_of({**inventory(**ALL), "index": {}}, "inv")
    with pytest.raises(InputError, match="no host in group 'index'"):
        fleet.require_index()


def test_no_inventory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such inventory") as caught:
        read_fleet(tmp_path / "absent")
    assert "--inventory" in caught.value.hint


def test_a_good_node_is_fit() -> None:
    assert unfit(FACTS, NODE) is None
    assert unfit(replace(FACTS, isa="rv64imafdcv_zicsr_zba_zbb_zvl256b"), NODE) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"machine": "x86_64"}, "x86_64 machine"),
        ({"isa": "rv64imac"}, "less than rv64gc"),
        ({"isa": ""}, "less than rv64gc"),
        ({"disk_free_bytes": 100 << 20}, "100 MiB of disk"),
        ({"selftest": "gcc ended with code 1: no ld"}, "can't compile: gcc ended with code 1: no ld"),
        (
            {"sandbox": "bubblewrap is not installed"},
            "no sandbox: bubblewrap is not installed; `farm provision`",
        ),
    ],
)
def test_f18_f21_an_unfit_node_gets_no_job(change: dict[str, object], why: str) -> None:
    assert why in (unfit(replace(FACTS, **change), NODE) or "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"gcc": ""}, "no gcc"),
        ({"gcc_march": "rv64gcv"}, "beyond rv64gc"),
        ({"gcc_march": "rv64gc_zba_zbb"}, "beyond rv64gc"),
        ({"gcc_march": ""}, "beyond rv64gc"),
        ({"gcc_march": "native"}, "beyond rv64gc"),
    ],
)
def test_f20_a_changed_toolchain_makes_a_node_unfit(change: dict[str, object], why: str) -> None:
    assert why in (unfit(replace(FACTS, **change), NODE) or "")  # type: ignore[arg-type]


def test_f11_twins() -> None:
    b = replace(FACTS, hostname="f3-b", machine_id="b" * 32)
    sg = replace(FACTS, hostname="sg", machine_id="c" * 32)
    assert twins({"f3-a": FACTS, "f3-b": b, "sg": sg}) == {}
    assert twins({"f3-a": FACTS, "f3-b": replace(b, hostname="f3-a")}) == {"f3-b": "f3-a"}
    assert twins({"f3-a": FACTS, "sg": replace(sg, machine_id="a" * 32)}) == {"sg": "f3-a"}
    assert twins({"x": replace(b, machine_id=""), "y": replace(sg, machine_id="")}) == {}, "no id is no proof"


@given(st.lists(st.sampled_from("abc"), max_size=5))
def test_f11_of_each_set_of_twins_one_is_left(hostnames: list[str]) -> None:
    facts = {
        f"n{number}": replace(FACTS, hostname=name, machine_id=str(number))
        for number, name in enumerate(hostnames)
    }
    assert len(facts) - len(twins(facts)) == len(set(hostnames))


def test_facts_survive_json() -> None:
    content = {**asdict(FACTS), "apt_packages": sorted(FACTS.apt_packages), "unknown_to_us": 1}
    assert Facts.from_json(json.dumps(content)) == FACTS


def test_slots_may_be_left_to_cores_and_memory() -> None:
    hosts = {**ALL, "sg": {name: value for name, value in BUILDER.items() if name != "farm_slots"}}
    assert fleet_of(inventory(**hosts), "inv").builders[2].slots is None


def test_labels_are_a_list_of_words() -> None:
    with pytest.raises(InputError, match="farm_labels is 'vector', not a list of words"):
        fleet_of(inventory(**{**ALL, "sg": {**BUILDER, "farm_labels": "vector"}}), "inv")


def test_only_the_inventory_s_own_words_allow_builds_without_a_sandbox() -> None:
    allow = "farm_allow_unsandboxed_builds"
    bare = replace(FACTS, sandbox="bwrap ended with code 1: no namespaces")

    def node(value: object) -> Node:
        fleet = fleet_of(inventory(**{**ALL, "sg": {**ALL["sg"], allow: value}}), "inv")
        return next(node for node in fleet.builders if node.name == "sg")

    allowed, strict = node(True), node(False)
    assert unfit(bare, allowed) is None
    assert "no namespaces" in (unfit(bare, strict) or "")
    for value in ("yes", "true", 1, None):
        with pytest.raises(InputError, match="not true or false"):
            node(value)
