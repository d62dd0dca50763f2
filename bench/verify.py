"""What do the static gates say of riscv64 wheels on PyPI, and how long do they take?

    python -m bench.verify [--json] [--wheels DIR] [--rounds N]

The wheels are those of bench/verify_wheels.txt, pinned by sha256; pip downloads what is not in DIR yet. Three
figures: processor seconds that the gates take for each wheel, disassembly included (one process, one thread);
the same per 20 MB of wheel; and the gate of the attributes alone against a shell loop of `readelf -A`, over
the same ELF files. Needs binutils. With --json the last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from farm.verify import Gate, Report
from farm.verify.elf import facts_of
from farm.verify.image import read_image
from farm.verify.isa import beyond_rv64gc, parse_arch
from farm.verify.judge import verify_wheel
from farm.verify.wheel import read_archive

WHEELS: Final = Path(__file__).with_name("verify_wheels.txt")
GLIBCS: Final = (17, 28, 31, 34, 35, 38, 39, 40, 41)
ROUNDS: Final = 3
MEGABYTE: Final = 1_000_000
# What a shell user would write; one shell for all files.
LOOP: Final = 'for file in "$0"/*; do readelf -A "$file"; done >/dev/null'


@dataclass(frozen=True, slots=True)
class Row:
    """One wheel: its report, and the least of the processor times it took, in seconds."""

    path: Path
    report: Report
    seconds: float

    @property
    def megabytes(self) -> float:
        """Size of the wheel file."""
        return self.path.stat().st_size / MEGABYTE

    @property
    def elves(self) -> int:
        """How many ELF files it has."""
        return sum(v.gate is Gate.ELF for v in self.report.verdicts)

    @property
    def verdicts(self) -> str:
        """The verdicts of the ISA gate, each with how many files have it if more than one."""
        found = [v.verdict for v in self.report.verdicts if v.gate is Gate.ISA]
        return ", ".join(
            f"{found.count(name)} {name}" if len(found) > 1 else name for name in dict.fromkeys(found)
        )

    @property
    def failures(self) -> list[str]:
        """What does not pass, in words."""
        return [f"{v.gate}: {v.subject}: {v.evidence}" for v in self.report.failures]


def download(folder: Path) -> list[Path]:
    """Have pip download the wheels of the list that are not in the folder; returns all of them."""
    platforms = [f"--platform=manylinux_2_{minor}_riscv64" for minor in GLIBCS]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    options = ["--require-hashes", "--python-version=3.13", *platforms, f"--dest={folder}"]
    subprocess.run([*pip, *options, f"--requirement={WHEELS}"], check=True, stdout=sys.stderr)
    return sorted(folder.glob("*.whl"))


def judge(wheel: Path, rounds: int) -> Row:
    """Put a wheel through all gates several times."""
    report = verify_wheel(wheel)
    return Row(wheel, report, least(lambda: verify_wheel(wheel), rounds, time.process_time))


def least(work: Callable[[], object], rounds: int, clock: Callable[[], float]) -> float:
    """Return the least time that some work took, in seconds."""
    times = []
    for _ in range(rounds):
        began = clock()
        work()
        times.append(clock() - began)
    return min(times)


def attribute_gate(elves: Sequence[bytes]) -> None:
    """Judge what ELF files say of themselves, and nothing else.

    They are in memory, as they are for the RECORD gate; readelf's are in the page cache.
    """
    for data in elves:
        facts = facts_of(read_image(data))
        if facts.arch is not None:
            beyond_rv64gc(parse_arch(facts.arch))


def attributes_against_readelf(wheels: Sequence[Path], rounds: int) -> tuple[float, float]:
    """Return wall seconds of the attribute gate and of the loop of ``readelf -A`` over the same files."""
    elves = [m.data for wheel in wheels for m in read_archive(wheel).elves if m.data is not None]
    with tempfile.TemporaryDirectory(prefix="wheelfarm-bench-") as folder:
        for number, data in enumerate(elves):
            (Path(folder) / f"{number:04}").write_bytes(data)
        loop = ["sh", "-c", LOOP, folder]
        ours = theirs = float("inf")
        for _ in range(rounds):  # in turns, so that each meets the same load
            ours = min(ours, least(lambda: attribute_gate(elves), 1, time.perf_counter))
            theirs = min(theirs, least(lambda: subprocess.run(loop, check=True), 1, time.perf_counter))
    return ours, theirs


def table(rows: Sequence[Row]) -> str:
    """Write the rows as a table in Markdown."""
    lines = ["| wheel | MB | ELF files | verdict | s |", "|---|---|---|---|---|"]
    for row in rows:
        name = "-".join(row.path.name.split("-")[:2])
        lines.append(f"| {name} | {row.megabytes:.1f} | {row.elves} | {row.verdicts} | {row.seconds:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Download, judge, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wheels", type=Path, default=Path("var/bench-wheels"), help="folder of the wheels")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the least of so many times counts")
    parser.add_argument("--json", action="store_true", help="print a JSON object as the last line")
    arguments = parser.parse_args()
    arguments.wheels.mkdir(parents=True, exist_ok=True)
    wheels = download(arguments.wheels)
    first = least(lambda: verify_wheel(wheels[0]), 1, time.process_time)
    rows = [judge(wheel, arguments.rounds) for wheel in wheels]
    ours, theirs = attributes_against_readelf(wheels, arguments.rounds)
    slowest = max(rows, key=lambda row: row.seconds)
    figures = {
        "wheels": len(rows),
        "elf_files": sum(row.elves for row in rows),
        "attribute_gate_vs_readelf": round(ours / theirs, 3),
        "seconds_per_20mb": round(20 * sum(r.seconds for r in rows) / sum(r.megabytes for r in rows), 2),
        "first_wheel_of_a_process_extra_s": round(first - rows[0].seconds, 2),
        "slowest": {
            "wheel": slowest.path.name,
            "mb": round(slowest.megabytes, 1),
            "s": round(slowest.seconds, 2),
        },
    }
    print(table(rows))
    for row in rows:
        print("".join(f"\n{row.path.name}: {failure}" for failure in row.failures), end="")
    print()
    print(json.dumps(figures) if arguments.json else "\n".join(f"{k}: {v}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
