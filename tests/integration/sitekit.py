"""A farm of three boards that worked for six days: real wheels, verdicts, provenance and store, no board."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from unittest.mock import patch

from farm.index import IndexTree, ProjectStatus, add_wheel, build_index
from farm.index.change import set_status, yank
from farm.index.stats import Client, Download, State, publish
from farm.nodes import Address, Node
from farm.paths import Paths
from farm.plan import JobSpec
from farm.provenance.attach import attach
from farm.provenance.key import publish_key
from farm.store import Failure, Mark, Store
from farm.verify import Gate, Verdict
from farm.verify.judge import verify_wheel
from tests.integration.siteprojects import EVIL, PROJECTS, Made
from tests.unit.provenance.kit import LIBRARY, record_json
from tests.unit.verify.wheelkit import make_elf, write_wheel

BEGAN: Final = 1_795_000_000.0  # 2026-11-18
BOARDS: Final = {
    "bpi-f3-1": ("BananaPi F3", "6.6.63-ky", "rv64imafdcv_zicbom_zicboz_zicntr_zba_zbb_zbs_zve64d", 8, 16),
    "bpi-f3-2": ("BananaPi F3", "6.6.63-ky", "rv64imafdcv_zicbom_zicboz_zicntr_zba_zbb_zbs_zve64d", 8, 16),
    "sg2044": (
        "SOPHGO SG2044 EVB",
        "6.12.8",
        "rv64imafdcv_zicbom_zicboz_zicntr_zba_zbb_zbc_zbs_zfa",
        64,
        128,
    ),
}
YAML: Final = {**LIBRARY, "file": "pyyaml.libs/libyaml-0-1f6ff8ee.so.2.0.9"}


@dataclass(frozen=True)
class Site:
    """All that pages are made of."""

    tree: IndexTree
    store: Store
    paths: Paths
    nodes: tuple[Node, ...]


class Clock:
    """Stands in for ``time.time`` of the store."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        return self.now


def make_site(folder: Path) -> Site:
    """Make a farm's tree and store of :data:`PROJECTS`, with failures, a queue and a quarantined board."""
    paths = Paths(folder / "state")
    tree = IndexTree(paths.tree, "https://wheels.example.org/")
    site = Site(tree, Store(paths.database), paths, tuple(map(_node, BOARDS)))
    clock = Clock()
    chance = random.Random(7)  # noqa: S311  # a simulation, the same in every run
    free = dict.fromkeys(BOARDS, BEGAN)
    with patch("farm.store.store.time.time", clock):
        run = site.store.begin_run("lookahead")
        known = {
            name: {"cores": b[3], "memory_bytes": b[4] << 30, "speed": 1.0 + (name == "sg2044")}
            for name, b in BOARDS.items()
        }
        site.store.note_nodes(run, known)
        for round_ in range(3):
            for made in PROJECTS:
                if round_ < len(made.versions):
                    for python in made.pythons:
                        node = min(free, key=lambda name: free[name])
                        clock.now = free[node]
                        _build(site, clock, made, made.versions[round_], python, node)
                        free[node] = clock.now + 60 * chance.uniform(0.2, 2)
            free = {
                name: max(at, BEGAN + (round_ + 1) * 140_000 + chance.uniform(0, 20_000))
                for name, at in free.items()
            }
        clock.now = max(free.values())
        _failures(site, clock)
        site.store.mark("bpi-f3-2", Mark.QUARANTINED, "only 1411 MiB of disk are free; make room")
    yank(tree, "lxml", "6.1.2", "libxslt of this build leaks memory in long transformations; use 6.1.3")
    set_status(tree, "greenlet", ProjectStatus.DEPRECATED, "Upstream ships riscv64 wheels now.")
    publish_key(paths.signing_key, tree.keys)
    build_index(tree)
    _upstream(tree)
    _downloads(tree)
    return site


def _node(name: str) -> Node:
    address = Address(
        name, f"{name}.example.org", 22, "builder", Path("/nowhere/key"), Path("/nowhere/known_hosts")
    )
    return Node(address, None, "/srv/farm", frozenset({"fast"} if name == "sg2044" else ()))


def spec_of(made: Made, version: str, python: str) -> JobSpec:
    """Return the job of one version for one Python."""
    filename = f"{made.name.replace('-', '_')}-{version}.tar.gz"
    sha256 = hashlib.sha256(filename.encode()).hexdigest()
    return JobSpec(
        made.name,
        version,
        python,
        filename,
        f"https://files.pythonhosted.org/packages/{sha256[:2]}/{filename}",
        sha256,
        made.recipe,
    )


def result_of(seconds: float, node: str, **more: object) -> str:
    """Return what a board says of a build that took so long."""
    steps = {
        "describe": 0.01,
        "unpack": 0.02,
        "fetch": 0.03,
        "environment": 0.08,
        "build": 0.79,
        "repair": 0.04,
        "record": 0.03,
    }
    model, kernel, isa, cores, _ = BOARDS[node]
    return json.dumps(
        {
            "started_at": 0,
            "duration_s": seconds,
            "phases_s": {name: seconds * share for name, share in steps.items()},
            "processor_s": {
                name: seconds * share * (cores / 3 if name == "build" else 0.8)
                for name, share in steps.items()
            },
            "peak_memory_bytes": 1_800_000_000,
            "toolchain": {
                "hostname": node,
                "kernel": kernel,
                "os": "Debian GNU/Linux 13 (trixie)",
                "isa": isa,
                "gcc": "14.2.0",
                "gcc_march": "rv64imafdc_zicsr_zifencei",
                "rustc": "rustc 1.92.0 (ded5c06cf 2026-12-08)",
                "sandbox": "bubblewrap 0.11.0",
                "model": model,
            },
            **more,
        }
    )


def _build(
    site: Site,
    clock: Clock,
    made: Made,
    version: str,
    python: str,
    node: str,
) -> None:
    """Build, verify and publish one wheel; some builds are lost or run out of memory on the way."""
    job = site.store.enqueue(spec_of(made, version, python))
    seconds = made.minutes * (60 if made.minutes < 1 else 240) / (2.5 if node == "sg2044" else 1)
    if made.name == "numpy" and node.startswith("bpi") and python == "cp312":
        _try(site, clock, job.job_id, node, seconds * 0.6)
        site.store.requeue(
            job.job_id,
            "the kernel killed cc1plus: out of memory",
            Failure.MEMORY,
            result_of(seconds * 0.6, node, message="the kernel killed cc1plus: out of memory"),
        )
        node = "sg2044"
    leased = clock.now
    job = _try(site, clock, job.job_id, node, seconds)
    tag = "cp311-abi3" if made.abi3 else f"{python.removesuffix('t')}-{python}"
    filename = f"{made.name.replace('-', '_')}-{version}-{tag}-manylinux_2_39_riscv64.whl"
    folder = site.paths.wheels(job.attempt_id)
    folder.mkdir(parents=True)
    package = made.name.replace("-", "_")
    parts = [
        f"{package}/_m{n}.cpython-{python[2:]}-riscv64-linux-gnu.so" for n in range(1 + int(made.minutes))
    ]
    files = {f"{package}/__init__.py": b"x = 1\n", **{part: make_elf() for part in parts[:24]}}
    if made.name == "pyyaml":
        files["pyyaml.libs/libyaml-0-1f6ff8ee.so.2.0.9"] = make_elf()
    text = f"Metadata-Version: 2.4\nName: {made.name}\nVersion: {version}\nSummary: {made.summary}\n"
    text += f"Requires-Python: >=3.9\n{made.metadata}"
    wheel = write_wheel(folder, filename, files, metadata=text)
    report = verify_wheel(wheel)
    proof = (
        Verdict(Gate.JOB, True, filename, f"as the job asked: {made.name} {version} for {python}, native"),
        Verdict(
            Gate.IMPORT,
            True,
            filename,
            f"pip installed {made.name}-{version} from https://wheels.example.org/simple/ in 4.8 s",
        ),
        *(
            Verdict(
                Gate.IMPORT,
                True,
                filename,
                f"imported {package} and {len(parts)} extension modules under {cpu} in {0.8 + at:.1f} s",
            )
            for at, cpu in enumerate(("sifive-u54", "rv64,v=true,vlen=128", "rv64,v=true,vlen=256"))
        ),
    )
    hostile = (Verdict(Gate.CONTENT, True, EVIL, f"named {EVIL}", EVIL),) if made.name == "hostile" else ()
    report = replace(report, verdicts=(*report.verdicts, *proof, *hostile))
    result = json.loads(result_of(seconds, node)) | {"started_at": leased + 2, "duration_s": seconds}
    built = site.store.built(job.job_id, filename, report.sha256, json.dumps(result))
    _log(site, job.attempt_id, made, node, failed="")
    _proof(site, job.attempt_id, package)
    board = BOARDS[node]
    record = record_json(
        job.spec,
        grafted=[YAML] if made.name == "pyyaml" else [],
        board={
            "id": "9" * 32,
            "model": board[0],
            "hostname": node,
            "kernel": board[1],
            "os": "Debian GNU/Linux 13 (trixie)",
            "isa": board[2],
        },
        compiler={
            "gcc": "14.2.0",
            "gcc_march": "rv64imafdc_zicsr_zifencei",
            "rustc": "rustc 1.92.0" if made.abi3 or made.name == "orjson" else "",
            "compilers": {"cc1": "riscv64"},
        },
        width=built.width,
    )
    site.paths.record(job.attempt_id).write_text(json.dumps(record))
    attach(site.paths, built, site.store.attempt(job.job_id), report, wheel)
    add_wheel(site.tree, wheel, clock.now)
    site.store.advance(job.job_id, site.store.job(job.job_id).state.VERIFIED)
    site.store.advance(job.job_id, site.store.job(job.job_id).state.PUBLISHED)


def _try(site: Site, clock: Clock, job_id: str, node: str, seconds: float):  # type: ignore[no-untyped-def]  # noqa: ANN202
    job = site.store.lease(job_id, node, BOARDS[node][3] // 2)
    clock.now += seconds
    return job


def _log(site: Site, attempt: str, made: Made, node: str, failed: str) -> None:
    lines = [
        f"[farm] job {attempt} on {node}",
        "[farm] sdist unpacked",
        *(
            f"  Building wheel: \x1b[32mcc -O2 -c src/part_{n}.c\x1b[0m -o build/part_{n}.o"
            for n in range(40)
        ),
        f"{EVIL}" if made.name == "hostile" else "",
        failed or "[farm] finished: ok",
    ]
    log = site.paths.log(attempt)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join(lines) + "\n")


def _proof(site: Site, attempt: str, module: str) -> None:
    lines = (
        f"$ QEMU_CPU={cpu} /room/venv/bin/python /room/inside.py 13 {module}\n= ended with code 0 (0.5 s)"
        for cpu in ("sifive-u54", "rv64,v=true,vlen=128", "rv64,v=true,vlen=256")
    )
    site.paths.proof(attempt).write_text("\n".join(lines) + "\n")


def _failures(site: Site, clock: Clock) -> None:
    """Add what does not go well: one failure of many a class, jobs that wait, one that runs."""
    for name, python, failure, message, seconds in (
        (
            "pymssql",
            "cp313",
            Failure.BUILD,
            "the build did not succeed: _mssql.c:1168:10: fatal error: sqlfront.h: No such file or directory",
            95.0,
        ),
        ("grpcio", "cp313", Failure.TIMEOUT, "not done after 14400 s", 14400.0),
        ("scikit-learn", "cp314", Failure.DEPENDENCY, "scikit-learn needs scipy, which failed (build)", 0.0),
        (
            "llvmlite",
            "cp313",
            Failure.MEMORY,
            "3 attempts ran out of memory, the last with 12288 MiB",
            2210.0,
        ),
        (
            "pyvex",
            "cp313",
            Failure.ISA,
            "pyvex/lib/libpyvex.so: contains-extended-code: vsetvli at 0x1f0c2 in simd_copy (and 3 more)",
            240.0,
        ),
        ("hostile", "cp314", Failure.TEST, f"import hostile under sifive-u54: {EVIL}", 12.0),
    ):
        made = Made(name, ("1.0",), 1, "")
        job = site.store.enqueue(spec_of(made, "2.1.0", python))
        if seconds:
            job = _try(site, clock, job.job_id, "bpi-f3-1", seconds)
            _log(site, job.attempt_id, made, "bpi-f3-1", f"[farm] finished: {failure} {message}")
        site.store.fail(
            job.job_id, failure, message, result_of(seconds, "bpi-f3-1", message=message) if seconds else None
        )
        clock.now += 30
    for name in ("scipy", "pandas", "matplotlib"):
        site.store.enqueue(spec_of(Made(name, ("1.0",), 1, ""), "3.0.0", "cp313"))
    running = site.store.enqueue(spec_of(Made("torch", ("1.0",), 1, ""), "2.10.0", "cp313"))
    running = _try(site, clock, running.job_id, "sg2044", 5000)
    site.store.advance(running.job_id, running.state.RUNNING)


def _downloads(tree: IndexTree) -> None:
    """What the counter of the index host says of the days before the last one."""
    chance, state = random.Random(7), State()  # noqa: S311  # a simulation, the same in every run
    today = datetime.fromtimestamp(BEGAN, UTC).date() + timedelta(days=7)
    for back in range(1, 45):
        for _ in range(chance.randrange(40, 160) // (1 + 2 * (back % 7 < 2))):
            # One in twenty is of what was removed from the index since.
            made = (
                chance.choices(PROJECTS, range(len(PROJECTS), 0, -1))[0] if chance.random() < 0.95 else None
            )
            client = Client(
                *chance.choices(
                    ("uv 0.13", "pip 26.3", "pip 25.1", "poetry 2.1", "other"), (60, 30, 9, 2, 2)
                ),
                *chance.choices(("3.13", "3.14", "3.12", "other"), (60, 25, 12, 3)),
                *chance.choices(("riscv64", "x86_64", "other"), (90, 5, 5)),
            )
            version = chance.choice(made.versions) if made else "1.0"
            day = (today - timedelta(days=back)).isoformat()
            state.count(Download(day, made.name if made else "withdrawn", version, client))
    state.count(Download((today - timedelta(days=1)).isoformat(), EVIL, EVIL, Client(EVIL, EVIL, EVIL)))
    publish(state, tree.root / "stats", today)


def _upstream(tree: IndexTree) -> None:
    (tree.root / "upstream").mkdir()
    for name, files in {
        "greenlet": ["greenlet-3.5.6.tar.gz", "greenlet-3.5.6-cp313-cp313-manylinux_2_39_riscv64.whl"],
        "numpy": ["numpy-2.4.1.tar.gz", "numpy-2.4.1-cp313-cp313-manylinux_2_27_x86_64.whl"],
    }.items():
        page = {
            "files": [
                {"filename": file, "upload-time": "2026-11-20T10:00:00Z", "yanked": False} for file in files
            ]
        }
        (tree.root / "upstream" / f"{name}.json").write_text(json.dumps(page))
