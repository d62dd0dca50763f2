"""How fast is the index? Against dumb-pypi, and against the least that such an index has to do.

    python -m bench.index [--rounds N] [--small] [--json]

20,000 and 100,000 wheels of 1.6 KB in 500 projects, on tmpfs; each tool's work in a process of its own, start
of the interpreter included; all in turns, so that each meets the same load. Ratios are medians of the rounds'
own ratios. ``dumb-pypi`` comes from PyPI into a virtual environment that is thrown away; it is not asked for
the pages of single releases, nor for its time stamp: so it writes less than it would by itself. What it needs
to be told (hashes, METADATA) is made by a plain loop, which counts. Prints a table; with ``--json``, one JSON
object is the last line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import served
from bench.index_work import line_of

PROJECTS: Final = 500
PYTHONS: Final = ("cp311", "cp312", "cp313", "cp314")
PAIRS: Final = 3
"""So many pairs of one more wheel, here and in the larger index, a round."""
PADDING: Final = 260  # what makes a wheel 1.6 KB
RAM: Final = Path("/dev/shm")  # noqa: S108
GOALS: Final = {
    "full_20k_vs_dumb_pypi": 0.55,
    "full_100k_vs_dumb_pypi": 0.6,
    "full_20k_vs_floor_cpu": 1.8,
    "plus_one_20k_s": 0.15,
    "plus_one_100k_s": 0.15,
    "plus_one_100k_vs_20k": 1.2,
    "plus_one_scan_vs_dumb_pypi": 0.15,
    "plus_one_files": 6,
    "plus_one_bytes": 100_000,
    "no_change_files": 0,
    "no_change_s": 0.25,
    "rss_20k_mib": 60,
    "rss_100k_mib": 190,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took: seconds, seconds of processor, MiB at most."""

    wall_s: float
    cpu_s: float
    rss_mib: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, max(self.rss_mib, other.rss_mib))


@dataclass(frozen=True, slots=True)
class Round:
    """One round of all tools over as many wheels."""

    ours: Cost
    dumb: Cost
    floor: Cost
    plus_one: Cost
    plus_one_scan: Cost
    dumb_plus_one: Cost
    no_change: Cost
    plus_one_files: int
    plus_one_bytes: int
    no_change_files: int


def run(command: Sequence[str], folder: Path) -> Cost:
    """Run a process and return what it took.

    As the kernel counts, a process begins with the memory of the one that started it: so a small one does. It
    may keep compiled modules, as an installed farm does.

    Raises:
        RuntimeError: it failed; a ratio with it would mean nothing.
    """
    repository = Path(__file__).resolve().parent.parent
    starter = [sys.executable, "-S", f"{repository}/bench/index_work.py", "run", str(folder)]
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [*starter, *command], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr[-2000:]}")
    return Cost(*json.loads(done.stdout))


def make_wheels(root: Path, count: int) -> None:
    """Write ``count`` wheels below ``packages/``; what is in them is told by their names."""
    for number in range(PROJECTS):
        name = f"project_{number:03d}"
        folder = root / "packages" / name.replace("_", "-")
        folder.mkdir(parents=True)
        for nth in range(count // PROJECTS):
            make_wheel(folder, name, f"{nth // 40}.{nth // 4 % 10}", PYTHONS[nth % 4])


def make_wheel(folder: Path, name: str, version: str, python: str) -> Path:
    """Write one wheel."""
    path = folder / f"{name}-{version}-{python}-{python}-manylinux_2_39_riscv64.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        members = {
            f"{name}/__init__.py": f"{python = }\n" + "#" * PADDING,
            f"{info}/METADATA": "Metadata-Version: 2.1\n"
            f"Name: {name}\nVersion: {version}\nSummary: One of many\nRequires-Python: >=3.11\n"
            "Requires-Dist: numpy>=2\nRequires-Dist: packaging\nLicense-Expression: MIT\n"
            "\nA wheel to measure with.\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: {python}-{python}-manylinux_2_39_riscv64\n",
            f"{info}/RECORD": f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        }
        for member, text in members.items():
            archive.writestr(zipfile.ZipInfo(member), text)
    return path


@contextmanager
def dumb_pypi() -> Iterator[Path]:
    """Install dumb-pypi into a virtual environment for as long as it is measured."""
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryDirectory(prefix="wheelfarm-bench-") as folder:
        subprocess.run([str(uv), "venv", "-q", "--python", sys.executable, folder], check=True)
        python = f"{folder}/bin/python"
        subprocess.run([str(uv), "pip", "install", "-q", "--python", python, "dumb-pypi"], check=True)
        yield Path(folder) / "bin" / "dumb-pypi"


def work(kind: str, root: Path, *more: str) -> Cost:
    """Do a piece of work of :mod:`bench.index_work`."""
    repository = Path(__file__).resolve().parent.parent
    return run([sys.executable, "-m", "bench.index_work", kind, str(root), *more], repository)


def reset(root: Path) -> None:
    """Leave only the wheels."""
    for path in root.iterdir():
        if path.name == "packages":
            for beside in path.glob("*/*.metadata"):
                beside.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def listing(root: Path) -> dict[Path, tuple[int, int, int]]:
    """Return inode, mtime and size of every file."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = (path := Path(folder) / name).stat()
            found[path] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def written(before: dict[Path, tuple[int, int, int]], root: Path) -> list[int]:
    """Return the sizes of files that are other ones than before."""
    return [held[2] for path, held in listing(root).items() if before.get(path) != held]


def one_round(root: Path, program: Path) -> Round:
    """Measure all tools over the wheels in ``root``, each beginning with these alone."""
    folder = root / "packages" / "project-007"
    reset(root)
    floor = work("floor", root)
    reset(root)
    options = ["--output-dir", "dumb", "--packages-url", "../../packages"]
    options += ["--no-per-release-json", "--no-generate-timestamp"]
    dumb = work("list", root) + run([str(program), *options, "--package-list-json", "list.json"], root)
    new = make_wheel(folder, "project_007", "99.0", "cp313")
    longer = (root / "list.json").read_text() + json.dumps(line_of(new)) + "\n"
    (root / "longer.json").write_text(longer)
    more = ["--package-list-json", "longer.json", "--previous-package-list-json", "list.json"]
    dumb_plus_one = run([str(program), *options, *more], root)
    new.unlink()
    reset(root)
    ours = work("ours", root)
    before = listing(root)
    no_change = work("ours", root)
    no_change_files = len(written(before, root))
    new = make_wheel(folder, "project_007", "99.0", "cp313")
    before = listing(root)
    plus_one = work("ours", root, "project-007")
    sizes = written(before, root)
    other = make_wheel(folder, "project_007", "99.1", "cp313")
    plus_one_scan = work("ours", root)
    for wheel in (new, other):
        wheel.unlink()
    return Round(
        *(ours, dumb, floor, plus_one, plus_one_scan, dumb_plus_one, no_change),
        *(len(sizes), sum(sizes), no_change_files),
    )


def measure(root: Path, count: int, rounds: int, program: Path) -> list[Round]:
    """Make ``count`` wheels in ``root`` and measure all tools over them."""
    make_wheels(root, count)
    return [one_round(root, program) for _ in range(rounds)]


def in_turns(small: Path, large: Path, rounds: int) -> float:
    """Return how many times as long one more wheel takes in the larger index.

    Each pair of measurements is made at once: minutes apart, a shared machine's own speed is another one.
    """
    for root in (small, large):
        work("ours", root)
    ratios = []
    for number in range(PAIRS * rounds):
        seconds = []
        for root in (small, large):
            make_wheel(root / "packages" / f"project-{number:03d}", f"project_{number:03d}", "99.2", "cp313")
            seconds.append(work("ours", root, f"project-{number:03d}").wall_s)
        ratios.append(seconds[1] / seconds[0])
    return median(ratios)


def median(values: Iterator[float] | Sequence[float], digits: int = 3) -> float:
    """Return the median, rounded."""
    return round(statistics.median(values), digits)


def figures(small: list[Round], large: list[Round]) -> dict[str, float]:
    """Return what the rounds come to, by the names that the goals have; times in seconds.

    Of a ratio to dumb-pypi, both wall and processor time must hold: the worse one counts.
    """
    result: dict[str, float] = {}
    for size, rounds in (("20k", small), ("100k", large)):
        wall = median([r.ours.wall_s / r.dumb.wall_s for r in rounds])
        cpu = median([r.ours.cpu_s / r.dumb.cpu_s for r in rounds])
        result[f"full_{size}_vs_dumb_pypi"] = max(wall, cpu)
        result[f"full_{size}_vs_dumb_pypi_wall"] = wall
        result[f"full_{size}_vs_dumb_pypi_cpu"] = cpu
        result[f"full_{size}_vs_floor_cpu"] = median([r.ours.cpu_s / r.floor.cpu_s for r in rounds])
        result[f"plus_one_{size}_s"] = median([r.plus_one.wall_s for r in rounds])
        result[f"rss_{size}_mib"] = median([r.ours.rss_mib for r in rounds], 1)
        for name in ("ours", "dumb", "floor", "no_change", "plus_one_scan", "dumb_plus_one"):
            costs: list[Cost] = [getattr(r, name) for r in rounds]
            result[f"{name}_{size}_wall_s"] = median([cost.wall_s for cost in costs])
            result[f"{name}_{size}_cpu_s"] = median([cost.cpu_s for cost in costs])
        result[f"dumb_{size}_rss_mib"] = median([r.dumb.rss_mib for r in rounds], 1)
    ratios = [r.plus_one_scan.wall_s / r.dumb_plus_one.wall_s for r in small]
    result["plus_one_scan_vs_dumb_pypi"] = median(ratios)
    result["plus_one_files"] = max(r.plus_one_files for r in small + large)
    result["plus_one_bytes"] = max(r.plus_one_bytes for r in small)
    result["plus_one_100k_bytes"] = max(r.plus_one_bytes for r in large)
    result["no_change_files"] = max(r.no_change_files for r in small + large)
    result["no_change_s"] = result["no_change_20k_wall_s"]
    return result


def show(console: Console, result: dict[str, float], goals: dict[str, float]) -> None:
    """Print the figures, those with a goal first."""
    table = Table("figure", "measured", "goal", "")
    for name, goal in goals.items():
        if name in result:
            table.add_row(name, str(result[name]), f"<= {goal}", "" if result[name] <= goal else "missed")
    for name in sorted(result.keys() - goals.keys()):
        table.add_row(name, str(result[name]), "", "")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and with ``--json`` one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken (default: 5)")
    parser.add_argument(
        "--small", action="store_true", help="a twentieth of the wheels: a trial of the bench"
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    chosen = parser.parse_args(arguments)
    counts = (1_000, 5_000) if chosen.small else (20_000, 100_000)
    memory = RAM if RAM.is_dir() else None
    with dumb_pypi() as program, tempfile.TemporaryDirectory(prefix="wheelfarm-bench-", dir=memory) as folder:
        roots = Path(folder, "small"), Path(folder, "large")
        sizes = zip(roots, counts, strict=True)
        result = figures(*(measure(root, count, chosen.rounds, program) for root, count in sizes))
        result["plus_one_100k_vs_20k"] = in_turns(*roots, chosen.rounds)
    result |= served.measure().figures()
    show(Console(stderr=chosen.json), result, GOALS)
    if chosen.json:
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
