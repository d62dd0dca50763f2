"""From a build on a board to provenance on an index that anybody can check."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from farm import controller
from farm.errors import InputError, PublishError, WheelError
from farm.index import IndexTree, add_wheel, build_index
from farm.index.crawl import CrawlResult, crawl
from farm.node.files import sha256_of
from farm.node.record import grafted
from farm.paths import REPOSITORY
from farm.provenance.key import publish_key, signing_key
from farm.provenance.names import PROVENANCE, SBOM, VERDICTS
from farm.publish import refuse_foreign
from farm.store import Failure, State
from farm.upstream import Upstream
from tests.integration.farmkit import Farm
from tests.integration.nginxkit import Nginx
from tests.integration.nodekit import Board, gated, make_environment, make_sdist
from tests.unit.verify.wheelkit import MODULE, make_elf, wheel_members, write_wheel, zip_bytes

pytestmark = pytest.mark.integration
NAME = "one-1.0-cp313-cp313-manylinux_2_39_riscv64.whl"
LIBRARY = make_elf(needed=())
GRAFTED = f"one.libs/libown-{hashlib.sha256(LIBRARY).hexdigest()[:8]}.so.1"
LOCK = b'[[package]]\nname = "pyo3"\nversion = "0.26.0"\nchecksum = "%s"\n' % (b"5" * 64)


@pytest.fixture
def tree(farm: Farm) -> IndexTree:
    """What a farm published that built one project, with a grafted library of its own and a crate."""
    files = {"one/__init__.py": b"", MODULE: make_elf(), GRAFTED: LIBRARY}
    wheel = farm.directory / NAME
    wheel.write_bytes(zip_bytes(wheel_members(NAME, files)))
    farm.open("one")
    backend = gated(farm.gate("one"), NAME, f"pathlib.Path({str(wheel)!r}).read_bytes()")
    farm.queue("one", backend, files={"Cargo.lock": LOCK, "libown.so.1": LIBRARY})
    tree = IndexTree(farm.paths.tree)

    def publish(wheels: Sequence[Path]) -> None:
        publish_key(farm.paths.signing_key, tree.keys)
        for path in wheels:
            refuse_foreign(path, tree)
            add_wheel(tree, path)
        build_index(tree)

    farm.publish = publish  # type: ignore[method-assign]
    farm.run()
    assert (farm.state("one"), farm.job("one").message) == (State.PUBLISHED, "")
    return tree


@pytest.fixture
def url(tree: IndexTree) -> Iterator[str]:
    folder = tree.root.parent / "nginx"
    folder.mkdir()
    nginx = Nginx(folder)
    variables = {
        "farm_index_url": nginx.url,
        "farm_index_root": str(tree.root),
        "index_server_fallback_url": "",
    }
    nginx.configure("index_server", "site.conf.j2", variables)
    nginx.start()
    yield f"{nginx.url}/simple/"
    nginx.stop()


def beside(tree: IndexTree, suffix: str) -> Path:
    return tree.packages / "one" / (NAME + suffix)


def crawled(url: str) -> CrawlResult:
    with requests.Session() as session:
        return crawl(url, None, session)


def verify(tree: IndexTree, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("farm"), "verify", beside(tree, ""), *arguments]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_published_wheel_carries_where_it_comes_from(tree: IndexTree, farm: Farm, url: str) -> None:
    result = crawled(url)
    assert result.ok, result.problems
    job = farm.job("one")
    served = requests.get(f"{url}../packages/one/{NAME}.provenance", timeout=10)
    assert served.headers["content-type"] == "application/vnd.pypi.integrity.v1+json"
    payload: Any = served.json()
    assert payload["attestation_bundles"][0]["publisher"]["kind"] == "wheel-farm"
    page = (tree.simple / "one/index.html").read_text()
    assert f'data-provenance="../../packages/one/{NAME}.provenance"' in page
    verdicts = json.loads(beside(tree, VERDICTS).read_text())
    assert verdicts["ok"]
    assert verdicts["sha256"] == job.wheel_sha256
    bill = beside(tree, SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    parts = {item["name"]: item for item in json.loads(bill)["components"]}
    assert parts["pyo3"]["hashes"][0]["content"] == "5" * 64
    library = {item["name"]: item["value"] for item in parts[GRAFTED.partition("/")[2]]["properties"]}
    assert library["wheel-farm:origin"].endswith("/one-1.0/libown.so.1"), (
        "found by its hash in the build itself"
    )
    assert tree.keys.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")
    assert b"PRIVATE" not in tree.keys.read_bytes()


def test_farm_verify_says_whose_it_is(tree: IndexTree) -> None:
    done = verify(tree, "--provenance", tree.keys)
    assert done.returncode == 0, done.stderr
    assert "built on" in done.stdout
    report = json.loads(verify(tree, "--provenance", tree.keys, "--json").stdout)[0]
    assert report["verdicts"][-1]["gate"] == "provenance"
    missing = verify(tree, "--provenance", tree.root / "none")
    assert missing.returncode == 3
    assert "fix: take the index's provenance.pub" in missing.stderr


def test_what_was_tampered_with_is_named_by_crawl_and_verify(tree: IndexTree, url: str) -> None:
    for path, change, cause in (
        (beside(tree, VERDICTS), lambda data: data.replace(b"true", b"TRUE", 1), "the provenance says"),
        (beside(tree, SBOM), lambda data: data + b" ", "the provenance says"),
        (
            beside(tree, PROVENANCE),
            lambda data: data.replace(b'"statement": "ey', b'"statement": "eX'),
            "not of this",
        ),
        (tree.keys, lambda _: b"", "no public key"),
        (tree.keys, None, "HTTP status 404"),
        (beside(tree, SBOM), None, "HTTP status 404"),
        (beside(tree, PROVENANCE), None, "HTTP status 404"),
    ):
        good = path.read_bytes()
        if change is None:
            path.unlink()
        else:
            assert change(good) != good
            path.write_bytes(change(good))
        causes = "; ".join(problem.cause for problem in crawled(url).problems)
        assert cause in causes, (path.name, causes)
        if path != tree.keys and not (path.suffix == ".json" and change is None):
            done = verify(tree, "--provenance", tree.keys)
            assert done.returncode == 1, path.name
            assert "Traceback" not in done.stderr
        path.write_bytes(good)
    assert crawled(url).ok


def test_a_wheel_whose_link_was_pointed_elsewhere_is_noticed(tree: IndexTree, url: str) -> None:
    page = tree.simple / "one/index.html"
    page.write_text(page.read_text().replace('provenance="../..', 'provenance="http://192.0.2.1'))
    assert "on another host" in crawled(url).problems[0].cause


def test_published_provenance_stays_when_the_same_wheel_comes_again(tree: IndexTree, tmp_path: Path) -> None:
    before = {suffix: beside(tree, suffix).read_bytes() for suffix in (PROVENANCE, SBOM, VERDICTS)}
    again = tmp_path / "again"
    again.mkdir()
    (again / NAME).write_bytes(beside(tree, "").read_bytes())
    for suffix in before:
        (again / (NAME + suffix)).write_bytes(b"{}")
    add_wheel(tree, again / NAME)
    assert {suffix: beside(tree, suffix).read_bytes() for suffix in before} == before
    with pytest.raises(WheelError, match="no provenance object"):
        refuse_foreign(again / NAME, tree)


def test_another_farm_s_provenance_is_not_published(tree: IndexTree, tmp_path: Path) -> None:
    other = IndexTree(tmp_path / "other")
    publish_key(tmp_path / "none", other.keys)
    with pytest.raises(WheelError, match="another key") as caught:
        refuse_foreign(beside(tree, ""), other)
    assert "the farm that built it" in caught.value.hint
    with pytest.raises(PublishError, match="other content"):
        add_wheel(tree, write_wheel(tmp_path, NAME))


def test_a_job_whose_record_is_of_another_build_is_not_published(farm: Farm) -> None:
    farm.queue("one", farm.gated("one"))
    farm.open("one")
    farm.run()
    job = farm.job("one")
    assert job.state is State.PUBLISHED
    record = farm.paths.record(job.attempt_id)
    good = record.read_text()
    for bad, message in (
        (good.replace(job.spec.sdist_sha256, "0" * 64), "its record is of another build"),
        (good.replace('"width"', '"wide"'), "unusable: width"),
        (None, "is missing"),
    ):
        record.unlink() if bad is None else record.write_text(bad)
        with farm.store() as store:  # as a controller that was killed before it verified the wheel
            store.advance(job.job_id, State.BUILT)
        farm.run()
        assert farm.job("one").failure is Failure.POLICY
        assert message in farm.job("one").message
    assert len(farm.published) == 1


def test_a_key_that_others_may_read_is_refused_before_anything_is_built(farm: Farm) -> None:
    signing_key(farm.paths.signing_key)
    farm.paths.signing_key.chmod(0o644)
    spec = farm.queue("one", farm.gated("one"))
    with pytest.raises(InputError, match="others may read"):
        controller.run(
            [spec],
            nodes=farm.nodes,
            publish=farm.publish,
            paths=farm.paths,
            upstream=Upstream("http://127.0.0.1:9/"),
            reporter=farm.recorder,
        )
    assert (farm.state("one"), farm.job("one").attempt) == (State.QUEUED, 0)


def test_grafted_libraries_are_traced_to_debian_s_packages(tmp_path: Path) -> None:
    """With this machine's own zlib, dpkg and readelf."""
    (library,) = {path.resolve() for path in Path("/usr/lib").glob("*-linux-gnu/libz.so.1")}
    sha256 = sha256_of(library)
    base, _, extension = library.name.partition(".")
    wheel = tmp_path / "demo.whl"
    wheel.write_bytes(
        zip_bytes({f"demo.libs/{base}-{sha256[:8]}.{extension}": library.read_bytes() + b"patched"})
    )
    (found,) = grafted(wheel, [library.parent])
    query = ["dpkg-query", "-W", "-f", "${Version}", "zlib1g"]
    assert found["package"] == "zlib1g"
    assert found["version"] == subprocess.run(query, check=True, capture_output=True, text=True).stdout
    assert found["soname"] == "libz.so.1"
    assert found["origin_sha256"] == sha256 != found["sha256"]
    assert found["copyright_sha256"] == sha256_of(Path("/usr/share/doc/zlib1g/copyright"))
    wheel.write_bytes(zip_bytes({f"demo.libs/{base}-00000000.{extension}": b"another libz"}))
    assert "package" not in next(grafted(wheel, [library.parent])), "the name alone proves nothing"


def test_a_board_writes_down_how_it_built(tmp_path: Path) -> None:
    board = Board(tmp_path / "node", make_environment(tmp_path / "environments"))
    result = board.build(make_sdist(), environment={"CFLAGS": "-O1", "MY_TOKEN": "hunter2"})
    assert result["failure"] is None, result
    record = json.loads((board.root / "jobs/demo.1/wheelhouse/demo.1.record.json").read_text())
    assert record["sdist_sha256"] == board.specs["demo.1"]["task"]["sdist_sha256"]  # type: ignore[index]
    assert (record["width"], record["recipe_digest"]) == (2, "4ec1be")
    assert record["variables"]["CFLAGS"] == "-O1"
    assert record["variables"]["MY_TOKEN"] == "(not recorded)"
    assert {"TZ", "LC_ALL", "SOURCE_DATE_EPOCH", "FARM_CC_FLAGS"} <= set(record["variables"])
    assert "hunter2" not in json.dumps(record)
    assert record["board"]["kernel"]
    assert Path("/etc/machine-id").read_text().strip() not in json.dumps(record)
