"""Built again on another node, and compared bit by bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from farm.errors import FarmError, InputError, NodeError, WheelError
from farm.executor import Executor
from farm.nodes import Facts, Node
from farm.paths import REPOSITORY
from farm.provenance.key import signing_key
from farm.rebuild import Rebuilt, rebuild
from farm.recipe import Recipe
from farm.store import Mark, State, controller_lock
from farm.verify.compare import Kind
from tests.integration.farmkit import Farm, Riscv64
from tests.integration.nodekit import forgotten
from tests.unit.verify.wheelkit import wheel_members, write_wheel, zip_bytes

pytestmark = pytest.mark.integration


@pytest.fixture
def built(farm: Farm) -> Farm:
    """A farm that built and published one project."""
    farm.queue("one", farm.gated("one"))
    farm.open("one")
    farm.run()
    assert farm.state("one") is State.PUBLISHED
    return farm


def again(
    farm: Farm,
    subject: str = "one",
    executor: type[Riscv64] = Riscv64,
    keys: Sequence[Ed25519PublicKey] = (),
) -> tuple[Rebuilt, list[str]]:
    notes: list[str] = []
    executors: dict[Node, Executor] = {node: executor(node) for node in farm.nodes}
    try:
        with controller_lock(farm.paths.lock), farm.store() as store:
            done = rebuild(
                subject,
                store=store,
                executors=executors,
                paths=farm.paths,
                fetch=lambda job: farm.directory / "sdists" / job.spec.sdist_filename,
                note=notes.append,
                keys=keys,
            )
    finally:
        for one in executors.values():
            one.close()
    return done, notes


def test_the_other_node_builds_the_same_bits_and_nothing_is_published(built: Farm) -> None:
    before = built.job("one")
    done, _ = again(built)
    assert done.comparison.identical
    assert {done.first_node, done.node} == {"f3", "sg"}
    assert done.why_same == ""
    assert done.second.read_bytes() == done.first.read_bytes()
    assert done.surroundings == ()
    assert built.job("one") == before
    assert len(built.published) == 1
    for node in built.nodes:
        forgotten(Path(node.root))
    log = next((built.paths.state / "logs").glob("*.rebuild-*.log")).read_text()
    assert "gate open" in log


def test_a_wheel_file_finds_its_job(built: Farm, tmp_path: Path) -> None:
    job = built.job("one")
    wheel = built.paths.wheels(job.attempt_id) / str(job.wheel)
    assert again(built, str(wheel))[0].job_id == job.job_id
    with pytest.raises(InputError, match="no job of this farm built these bytes"):
        again(built, str(write_wheel(tmp_path)))


def test_a_wheel_that_the_store_forgot_is_built_as_its_provenance_says(built: Farm) -> None:
    job = built.job("one")
    wheel = built.paths.wheels(job.attempt_id) / str(job.wheel)
    key = signing_key(built.paths.signing_key).public_key()
    for path in built.paths.state.glob("farm.sqlite*"):
        path.unlink()
    built.paths.record(job.attempt_id).unlink()
    done, notes = again(built, str(wheel), keys=[key])
    assert done.comparison.identical
    assert (done.job_id, done.first_node) == (job.job_id, job.node)
    assert {done.first_node, done.node} == {"f3", "sg"}
    assert not [note for note in notes if "was not recorded" in note]
    assert done.surroundings == ()
    with pytest.raises(WheelError, match="signed by another key"):
        again(built, str(wheel))
    wheel.with_name(f"{wheel.name}.provenance").unlink()
    with pytest.raises(InputError, match="no job of this farm built these bytes") as caught:
        again(built, str(wheel), keys=[key])
    assert f"{wheel.name}.provenance" in caught.value.hint


def test_what_differs_is_told(built: Farm) -> None:
    members = wheel_members(built.wheel("one").name)
    members["demo/__init__.py"] = b"built = 'today'\n"
    built.wheel("one").write_bytes(zip_bytes(members))  # what the build leaves from now on
    done, _ = again(built)
    assert not done.comparison.identical
    details = {item.member: item for item in done.comparison.differences}
    assert details["demo/__init__.py"].kind is Kind.CONTENT
    assert "+built = 'today'" in details["demo/__init__.py"].detail
    assert built.state("one") is State.PUBLISHED


def test_where_there_is_no_other_node_the_same_one_builds_and_it_is_said(built: Farm) -> None:
    first = built.job("one").node
    other = next(node for node in built.nodes if node.name != first)
    with built.store() as store:
        store.mark(other.name, Mark.DRAINED, "by a test")
    done, notes = again(built)
    assert done.node == done.first_node == first
    assert done.why_same == f"{other.name} is drained"
    assert any("the same node builds again" in note for note in notes)


class Twin(Riscv64):
    """One machine under two names."""

    def prepare(self) -> Facts:
        return replace(super().prepare(), machine_id="one and the same", hostname="twin")


def test_f11_the_same_machine_under_another_name_is_not_taken_for_another_one(built: Farm) -> None:
    done, _ = again(built, executor=Twin)
    assert done.why_same == "there is no other one"


def test_a_rebuild_that_fails_or_can_run_nowhere_says_so_and_leaves_nothing(built: Farm) -> None:
    built.wheel("one").unlink()
    with pytest.raises(FarmError, match=r"the rebuild on (f3|sg) failed \(build\)") as caught:
        again(built)
    assert ".rebuild-" in caught.value.hint
    spec = built.job("one").spec
    with built.store() as store:
        store.enqueue(replace(spec, recipe=Recipe(nodes=["sold"])))
    with pytest.raises(NodeError, match="not a node this job may use"):
        again(built)
    for node in built.nodes:
        forgotten(Path(node.root))


def test_jobs_without_a_wheel_are_refused(farm: Farm) -> None:
    farm.queue("one", "def build_wheel(*_):\n    raise SystemExit('no')\n")
    farm.run()
    with pytest.raises(InputError, match="it has no wheel, it is failed"):
        again(farm)
    with pytest.raises(InputError, match="no such job"):
        again(farm, "other")


def test_farm_verify_rebuild_refuses_in_one_line(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.json"
    known = tmp_path / "known"
    known.touch()
    host = {
        "ansible_host": "127.0.0.1",
        "ansible_ssh_private_key_file": str(known),
        "farm_known_hosts": str(known),
        "farm_build_user": "nobody",
        "farm_node_dir": "/nowhere",
    }
    inventory.write_text(json.dumps({"builders": {"hosts": {"f3": host}}}))
    command = [
        str(Path(sys.executable).with_name("farm")),
        "verify",
        "--rebuild",
        "nosuch",
        "-i",
        str(inventory),
    ]
    done = subprocess.run(
        [*command, "--state", str(tmp_path / "state")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3, done.stderr
    assert "error: nosuch: no such job" in done.stderr
    assert "Traceback" not in done.stderr
