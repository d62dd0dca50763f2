"""The main job on real riscv64 userlands: provision, build, verify, publish, install."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from farm.cleanroom import CPUS
from farm.verify import Gate
from farm.verify.judge import verify_wheel
from tests.boards.conftest import Site, changed

pytestmark = pytest.mark.boards

C_PROJECT = "pyyaml==6.0.3"
PINNED_PROJECT = "editdistpy==0.1.6"


@pytest.fixture(scope="session")
def published(site: Site) -> Site:
    """The site after two projects were built on two boards, with the controller killed half way."""
    dispatch = site.start_farm("dispatch", C_PROJECT, PINNED_PROJECT)
    deadline = time.monotonic() + 300
    try:
        while [job["state"] for job in site.status().values()] != ["running", "running"]:
            assert time.monotonic() < deadline, "the builds did not start"
    finally:
        dispatch.send_signal(signal.SIGKILL)
        dispatch.wait()
    site.farm("dispatch")
    return site


def test_f12_a_second_run_of_all_playbooks_changes_nothing(site: Site) -> None:
    for name in ("virtual.yml", "site.yml"):
        recap = changed(site.playbook(name))
        assert recap
        assert set(recap.values()) == {0}, recap


def test_f11_f18_f20_nodes_are_distinct_and_rv64gc(site: Site) -> None:
    nodes = json.loads(site.farm("nodes", "--json").stdout)
    assert set(nodes) == {"vboard-f3", "vboard-sg2044"}
    assert len({node["machine_id"] for node in nodes.values()}) == 2
    assert {node["hostname"] for node in nodes.values()} == {"vboard-f3", "vboard-sg2044"}
    for node in nodes.values():
        assert node["unfit"] is None
        assert node["machine"] == "riscv64"
        assert node["gcc"].startswith("14.")
        assert node["gcc_march"].startswith("rv64imafdc")
        assert node["pythons"] == ["cp313"]


def test_f10_builds_survive_the_controller_and_are_taken_up_not_repeated(published: Site) -> None:
    jobs = published.status()
    assert {job["state"] for job in jobs.values()} == {"published"}
    assert {job["attempt"] for job in jobs.values()} == {1}


def test_f11_both_boards_build(published: Site) -> None:
    assert {job["node"] for job in published.status().values()} == {"vboard-f3", "vboard-sg2044"}


def test_published_wheels_pass_every_gate_again(published: Site) -> None:
    wheels = sorted((published.state / "index" / "packages").rglob("*.whl"))
    assert len(wheels) == 2
    for wheel in wheels:
        report = verify_wheel(wheel)
        assert report.ok, report.failures
        assert "manylinux" in wheel.name


def test_published_wheels_were_imported_in_the_clean_room(published: Site) -> None:
    found = sorted((published.state / "index" / "packages").rglob("*.whl.verdicts.json"))
    assert len(found) == 2
    for path in found:
        said = json.loads(path.read_text())
        assert said["ok"]
        # Installed, and imported on each core.
        assert [verdict["gate"] for verdict in said["verdicts"]].count(Gate.IMPORT) == 1 + len(CPUS)


def test_f13_the_log_states_the_recipe_and_the_pin_reached_the_isolated_environment(published: Site) -> None:
    log = published.farm("logs", "editdistpy").stdout
    assert "constraints ['setuptools<82']" in log
    (environment,) = [line for line in log.splitlines() if "build environment:" in line]
    assert " setuptools==81." in environment


def test_f13_without_the_pin_the_build_fails_and_says_why(published: Site, tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = published.farm(
        "dispatch", PINNED_PROJECT, "--recipes", str(tmp_path), "--state", str(state), check=False
    )
    assert done.returncode == 1
    assert "failed (build)" in done.stdout
    assert "pkg_resources" in done.stdout
    assert "whole log: " in done.stdout


def test_dispatched_again_nothing_is_built_again(published: Site) -> None:
    done = published.farm("dispatch", C_PROJECT)
    assert "1 of 1 published" in done.stdout
    assert published.status()["pyyaml"]["attempt"] == 1


def test_bad_requests_are_refused_before_anything_runs(site: Site) -> None:
    for arguments, message, code in (
        (["six"], "pure Python", 0),
        (["wheel-farm-no-such-project"], "no such project", 4),
        (["pyyaml==99"], "no version on the index fits it", 4),
        (["not a name"], "not a requirement", 3),
    ):
        done = site.farm("dispatch", *arguments, check=False)
        assert message in done.stdout + done.stderr
        assert done.returncode == code
        assert "Traceback" not in done.stderr


def test_pip_installs_on_a_clean_system_without_compilers(published: Site) -> None:
    wanted = {
        "try_requirements": [C_PROJECT, PINNED_PROJECT],
        "try_modules": ["yaml._yaml", "editdistpy.levenshtein"],
    }
    output = published.playbook("try_wheels.yml", "--extra-vars", json.dumps(wanted))
    assert "Successfully installed" in output
    assert "editdistpy/levenshtein" in output


def test_uv_on_riscv64_locks_with_hashes_and_installs_by_the_lock(published: Site) -> None:
    folder, uv = "/var/tmp/wheelfarm-uv", "/opt/wheelfarm/cp313/bin/uv"  # noqa: S108 - on a test's board
    wheels = "UV_NO_CACHE=1 UV_ONLY_BINARY=:all: UV_DEFAULT_INDEX=http://127.0.31.30:8080/simple/"
    output = published.on_board(
        "vboard-f3",
        f"set -eu; rm -rf {folder}; mkdir {folder}; cd {folder}; export {wheels};"
        f" for name in {C_PROJECT} {PINNED_PROJECT}; do echo $name; done >wanted.txt;"
        f" {uv} pip compile --quiet --generate-hashes wanted.txt -o lock.txt;"
        f" {uv} pip install --require-hashes --target {folder}/there -r lock.txt 2>&1;"
        f" PYTHONPATH={folder}/there python3 -c"
        " 'import yaml._yaml, editdistpy.levenshtein as e; print(yaml._yaml.__file__, e.__file__)';"
        f" rm -r {folder}",
    )
    assert f"{folder}/there/yaml/_yaml.cpython-313-riscv64-linux-gnu.so" in output
    assert f"{folder}/there/editdistpy/levenshtein" in output


def test_published_wheels_carry_provenance_that_names_grafted_libraries(published: Site) -> None:
    index = published.state / "index"
    wheels = sorted((index / "packages").rglob("*.whl"))
    done = published.farm("verify", "--provenance", str(index / "provenance.pub"), *map(str, wheels))
    assert done.stdout.count("built on") == len(wheels)
    (bill,) = (index / "packages/pyyaml").glob("*.cdx.json")
    parts = {item["name"]: item for item in json.loads(bill.read_text())["components"]}
    library = parts["libyaml-0-2"]
    assert library["purl"].startswith("pkg:deb/debian/libyaml-0-2@")
    assert library["licenses"]
    facts = {item["name"]: item["value"] for item in library["properties"]}
    assert facts["wheel-farm:soname"] == "libyaml-0.so.2"


def test_built_again_on_the_other_board_the_wheel_is_the_same_bit_by_bit(published: Site) -> None:
    (done,) = json.loads(published.farm("verify", "--rebuild", "pyyaml", "--json").stdout)
    assert done["identical"], done["differences"]
    assert not done["same_node"], done["why_same_node"]


def test_f09_the_published_index_is_whole(published: Site) -> None:
    nodes = published.farm("index", "crawl", "http://127.0.31.30:8080/simple/")
    assert "0 problems" in nodes.stdout
