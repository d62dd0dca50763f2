"""The role `rust` with rustup, on a real riscv64 userland, from a mirror on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.boards.conftest import Site, changed
from tests.boards.rustupkit import HOST, RUST_1_90, RUST_1_95, DistMirror

pytestmark = pytest.mark.boards

BOARD = "vboard-f3"
PLAYBOOK = Path(__file__).with_name("rustup.yml")


@dataclass(frozen=True)
class Outcome:
    """How a run of the playbook ended."""

    ok: bool
    output: str
    changed: int | None
    requests: list[str]


@dataclass
class Rustup:
    """One builder whose Rust comes from a mirror of the test's own."""

    site: Site
    mirror: DistMirror
    address: str
    source: str = "debian"

    def provision(self, toolchain: str, *, first: bool = False) -> Outcome:
        """Run the role with rustup; after the first time without apt, which is slow and has no news."""
        return self._run("rustup", toolchain, first=first, packages=[] if first else ["rustup", "sccache"])

    def back_to_debian(self) -> Outcome:
        return self._run("debian", RUST_1_95.version, first=False, packages=[])

    def _run(self, source: str, toolchain: str, *, first: bool, packages: list[str]) -> Outcome:
        variables = {
            "rust_source": source,
            "rust_toolchain": toolchain,
            "rust_dist_server": self.address,
            "rust_home": "/opt/wheelfarm-test-rust",
            "rust_test_first": first,
            "packages_present": packages,
        }
        self.mirror.requests.clear()
        done = self.site.try_playbook(str(PLAYBOOK), "--extra-vars", json.dumps(variables))
        print(done.stdout, done.stderr)  # pytest shows it where a test fails
        # Even a run that failed may have taken Debian's Rust away.
        self.source = source if done.returncode == 0 or source == "rustup" else self.source
        return Outcome(
            done.returncode == 0, done.stdout, changed(done.stdout).get(BOARD), self.mirror.requests.copy()
        )


@pytest.fixture(scope="module")
def rustup(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rustup]:
    """Yield the builder; puts Debian's Rust back for the other tests."""
    mirror = DistMirror(tmp_path_factory.mktemp("mirror"))
    mirror.add(RUST_1_90)
    mirror.add(RUST_1_95)
    with mirror.served() as address:
        made = Rustup(site, mirror, address)
        yield made
        if made.source != "debian":
            back = made.back_to_debian()
            assert back.ok, back.output


@pytest.fixture(scope="module")
def installed(rustup: Rustup) -> Outcome:
    done = rustup.provision(RUST_1_95.version, first=True)
    assert done.ok, done.output
    return done


def test_a_half_toolchain_is_replaced_by_the_pinned_one(installed: Outcome) -> None:
    for line in RUST_1_95.rustc_verbose:
        assert line in installed.output
    assert RUST_1_95.cargo in installed.output


def test_all_comes_from_the_mirror_and_it_is_what_builds_need(installed: Outcome) -> None:
    assert {path.removesuffix(f"-1.95.0-{HOST}.tar.xz") for path in installed.requests} == {
        "/dist/channel-rust-1.95.0.toml.sha256",
        "/dist/channel-rust-1.95.0.toml",
        "/dist/2026-04-16/cargo",
        "/dist/2026-04-16/rust-std",
        "/dist/2026-04-16/rustc",
    }


@pytest.mark.usefixtures("installed")
def test_a_second_run_changes_nothing_and_downloads_nothing(rustup: Rustup) -> None:
    again = rustup.provision(RUST_1_95.version)
    assert again.ok, again.output
    assert again.changed == 0
    assert again.requests == []


@pytest.mark.usefixtures("installed")
def test_a_toolchain_that_the_mirror_lacks_is_named(rustup: Rustup) -> None:
    refused = rustup.provision("1.93.0")
    assert not refused.ok
    assert (
        f"No toolchain 1.93.0-{HOST} from {rustup.address}: "
        f"error: could not download nonexistent rust version `1.93.0-{HOST}`" in refused.output
    )


@pytest.mark.usefixtures("installed")
def test_a_manifest_that_is_not_what_its_hash_says_is_refused_with_its_name(rustup: Rustup) -> None:
    rustup.mirror.spoil_manifest(RUST_1_90)
    refused = rustup.provision(RUST_1_90.version)
    rustup.mirror.add(RUST_1_90)
    assert not refused.ok
    assert f"error: toolchain '1.90.0-{HOST}' is not installable" in refused.output
    assert "dist/channel-rust-1.90.0.toml belong to the .sha256 beside it?" in refused.output


@pytest.mark.usefixtures("installed")
def test_wrong_bytes_are_refused_and_from_a_mended_mirror_another_version_takes_over(rustup: Rustup) -> None:
    rustup.mirror.spoil("cargo", RUST_1_90)
    refused = rustup.provision(RUST_1_90.version)
    rustup.mirror.add(RUST_1_90)
    assert not refused.ok
    assert (
        f"No toolchain 1.90.0-{HOST} from {rustup.address}: "
        f"error: component download failed for cargo-{HOST}: "
        f"checksum failed for '{rustup.address}/dist/" in refused.output
    )

    mended = rustup.provision(RUST_1_90.version)
    assert mended.ok, mended.output
    assert RUST_1_90.rustc in mended.output
    assert RUST_1_90.cargo in mended.output


def test_a_channel_is_refused_before_anything_is_asked(rustup: Rustup) -> None:
    refused = rustup.provision("stable")
    assert not refused.ok
    assert "rust_toolchain must be a whole version such as 1.90.0, not stable" in refused.output
    assert refused.requests == []


@pytest.mark.usefixtures("installed")
def test_back_to_debian_nothing_of_rustup_is_on_the_path(rustup: Rustup) -> None:
    back = rustup.back_to_debian()
    assert back.ok, back.output
    assert "rustc 1.85" in back.output
    assert "cargo 1.85" in back.output
