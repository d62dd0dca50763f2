"""A mirror of Rust's distribution server on the loopback address, in the format that rustup reads.

The format is the real one, and so is what the releases say of themselves. The programs are stand-ins: a real
toolchain is hundreds of megabytes from a server that tests may not reach. They answer `-vV` and `-V` as the
release does and compile nothing. So what is proven with them is how a toolchain gets onto a board, not what
it builds there.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from tests.httpkit import Files, serving_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

HOST = "riscv64gc-unknown-linux-gnu"
# Manifests name this server even on a mirror: rustup puts RUSTUP_DIST_SERVER in its place.
ORIGIN = "https://static.rust-lang.org"


@dataclass(frozen=True)
class Release:
    """What a release of Rust says of itself."""

    version: str
    date: str
    rustc_commit: str
    rustc_date: str
    llvm: str
    cargo_package: str
    cargo_commit: str

    @property
    def rustc(self) -> str:
        return f"rustc {self.version} ({self.rustc_commit[:9]} {self.rustc_date})"

    @property
    def cargo(self) -> str:
        return f"cargo {self.version} ({self.cargo_commit})"

    @property
    def rustc_verbose(self) -> list[str]:
        return [
            self.rustc,
            "binary: rustc",
            f"commit-hash: {self.rustc_commit}",
            f"commit-date: {self.rustc_date}",
            f"host: {HOST}",
            f"release: {self.version}",
            f"LLVM version: {self.llvm}",
        ]


RUST_1_90 = Release(
    version="1.90.0",
    date="2025-09-18",
    rustc_commit="1159e78c4747b02ef996e55082b704c09b970588",
    rustc_date="2025-09-14",
    llvm="20.1.8",
    cargo_package="0.91.0",
    cargo_commit="840b83a10 2025-07-30",
)
RUST_1_95 = Release(
    version="1.95.0",
    date="2026-04-16",
    rustc_commit="59807616e1fa2540724bfbac14d7976d7e4a3860",
    rustc_date="2026-04-14",
    llvm="22.1.2",
    cargo_package="0.96.0",
    cargo_commit="f2d3ce0bd 2026-03-21",
)


@dataclass(frozen=True)
class DistMirror:
    """The folder that is served, and what was asked for."""

    root: Path
    requests: list[str] = field(default_factory=list)

    def add(self, release: Release) -> None:
        """Write a release's components and its manifest."""
        components = {
            package: {
                suffix: self._write(
                    f"dist/{release.date}/{package}-{release.version}-{HOST}.tar.{suffix}",
                    _tarball(package, release, suffix),
                )
                for suffix in ("gz", "xz")
            }
            for package in ("cargo", "rust-std", "rustc")
        }
        self._write_manifest(release, _manifest(release, components))

    def spoil(self, package: str, release: Release) -> None:
        """Make the mirror send other bytes than the manifest promises."""
        for suffix in ("gz", "xz"):
            path = self.root / f"dist/{release.date}/{package}-{release.version}-{HOST}.tar.{suffix}"
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0xFF
            path.write_bytes(content)

    def spoil_manifest(self, release: Release) -> None:
        """Make the manifest differ from its hash, as on a mirror that was copied half way."""
        with (self.root / f"dist/channel-rust-{release.version}.toml").open(
            "a", encoding="utf-8"
        ) as manifest:
            manifest.write("# another copy\n")

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the mirror; yields its address."""
        requests = self.requests

        class Handler(Files):
            def do_GET(self) -> None:
                requests.append(self.path)
                super().do_GET()

        with serving_folder(self.root, Handler) as url:
            yield url

    def _write(self, path: str, content: bytes) -> _Stored:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)
        return _Stored(f"{ORIGIN}/{path}", hashlib.sha256(content).hexdigest())

    def _write_manifest(self, release: Release, manifest: str) -> None:
        name = f"channel-rust-{release.version}.toml"
        stored = self._write(f"dist/{name}", manifest.encode())
        self._write(f"dist/{name}.sha256", f"{stored.sha256}  {name}\n".encode())


@dataclass(frozen=True)
class _Stored:
    url: str
    sha256: str


def _manifest(release: Release, components: Mapping[str, Mapping[str, _Stored]]) -> str:
    commit = f"{release.rustc_commit[:9]} {release.rustc_date}"
    versions = {
        "cargo": f"{release.cargo_package} ({release.cargo_commit})",
        "rust-std": f"{release.version} ({commit})",
        "rustc": f"{release.version} ({commit})",
    }
    lines = ['manifest-version = "2"', f'date = "{release.date}"']
    for package, files in components.items():
        lines += [
            f"[pkg.{package}]",
            f'version = "{versions[package]}"',
            f"[pkg.{package}.target.{HOST}]",
            "available = true",
            f'url = "{files["gz"].url}"',
            f'hash = "{files["gz"].sha256}"',
            f'xz_url = "{files["xz"].url}"',
            f'xz_hash = "{files["xz"].sha256}"',
            "components = []",
            "extensions = []",
        ]
    lines += ["[pkg.rust]", f'version = "{versions["rustc"]}"']
    lines += [f"[pkg.rust.target.{HOST}]", "available = true", "extensions = []"]
    for package in ("rustc", "rust-std", "cargo"):
        lines += [
            f"[[pkg.rust.target.{HOST}.components]]",
            f'pkg = "{package}"',
            f'target = "{HOST}"',
            "is_extension = false",
        ]
    minimal = '"rustc", "cargo", "rust-std", "rust-mingw"'
    default = f'{minimal}, "rust-docs", "rustfmt-preview", "clippy-preview"'
    lines += ["[profiles]", f"minimal = [{minimal}]", f"default = [{default}]", "[renames]"]
    return "\n".join(lines) + "\n"


def _tarball(package: str, release: Release, suffix: Literal["gz", "xz"]) -> bytes:
    """Return a component in the format of rust-installer, version 3."""
    content = _content(package, release)
    # As in the real ones: only the standard library's folder is named after the target.
    component = f"{package}-{HOST}" if package == "rust-std" else package
    files = {
        "rust-installer-version": b"3\n",
        "version": f"{release.version}\n".encode(),
        "components": f"{component}\n".encode(),
        f"{component}/manifest.in": "".join(f"file:{path}\n" for path in content).encode(),
        **{f"{component}/{path}": data for path, data in content.items()},
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        folders = {parent.as_posix() for path in files for parent in PurePosixPath(path).parents}
        for path in sorted({*folders, *files}):  # a folder comes before what is in it
            member = tarfile.TarInfo(f"{package}-{release.version}-{HOST}/{path}")
            if path in folders:
                member.type = tarfile.DIRTYPE
            member.mode = 0o755 if path in folders or "/bin/" in path else 0o644
            member.size = len(files.get(path, b""))
            archive.addfile(member, io.BytesIO(files.get(path, b"")))
    return gzip.compress(packed.getvalue()) if suffix == "gz" else lzma.compress(packed.getvalue())


def _content(package: str, release: Release) -> dict[str, bytes]:
    if package == "rustc":
        return {"bin/rustc": _stand_in(release.rustc, release.rustc_verbose)}
    if package == "cargo":
        return {"bin/cargo": _stand_in(release.cargo, [release.cargo])}
    return {f"lib/rustlib/{HOST}/lib/libstd-0123456789abcdef.rlib": b"!<arch>\n"}


def _stand_in(version: str, verbose: list[str]) -> bytes:
    """Return a program that only knows its version."""
    return "\n".join(
        [
            "#!/bin/sh",
            'case "$*" in',
            f"-V | --version) echo '{version}' ;;",
            "-vV) cat <<'END' ;;",
            *verbose,
            "END",
            '*) echo "a test\'s stand-in compiles nothing: $0 $*" >&2 && exit 1 ;;',
            "esac",
            "",
        ]
    ).encode()
