"""Estimates of builds that were never run: a table of known giants, then what the sdist holds."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from farm.estimate.features import Language, SdistFeatures
from farm.schedule.model import Estimate

SPREAD_GIANT: Final = 1.8
SPREAD_SOURCE: Final = 3.0
SPREAD_UNKNOWN: Final = 4.0

BASE_S: Final = 15.0
"""Of any build: markupsafe, 4 KiB of C, took 15 s (this and what follows: user CPU time under qemu-user)."""
SECONDS_PER_KIB: Final[Mapping[Language, float]] = {
    # msgspec, cffi and uvloop: 0.1; zstandard 0.23; lxml with C beside its Cython 0.06.
    Language.C: 0.1,
    # contourpy (pybind11): 4; plain C++ is far less.
    Language.CXX: 2.0,
    # Where the C is not shipped: lxml and uvloop, seconds for a KiB of pyx: 1.6 and 3.2.
    Language.CYTHON: 2.0,
    Language.FORTRAN: 0.3,
    Language.RUST: 1.0,
}
# Crates come on top of the sdist: the smallest PyO3 project compiles some twenty of them. textual-speedups
# (11 KB of sdist) took as long as cffi, msgspec, httptools and pyyaml together.
RUST_S: Final = 300.0
UNREADABLE_S_PER_MIB: Final = 60.0

SERIAL: Final[Mapping[Language, float]] = {
    # setuptools compiles one file after the other unless told otherwise.
    Language.C: 0.4,
    Language.CXX: 0.12,
    Language.CYTHON: 0.3,
    Language.FORTRAN: 0.15,
    Language.RUST: 0.3,
}
MEMORY: Final[Mapping[Language, int]] = {
    # F25: C++ about 1.3 GB a task, C about 0.3.
    Language.C: 300_000_000,
    Language.CXX: 1_300_000_000,
    Language.CYTHON: 600_000_000,
    Language.FORTRAN: 600_000_000,
    Language.RUST: 1_200_000_000,
}
UNKNOWN: Final = Estimate(120.0, 480.0, 800_000_000, SPREAD_UNKNOWN)
"""Nothing at all is known: an order of magnitude between a small C project and one of Cython."""


@dataclass(frozen=True, slots=True)
class Giant:
    """A line of the table: reference hours of one core, the serial share, and a task's memory in bytes."""

    hours: float
    serial: float
    memory_bytes: int

    def estimate(self) -> Estimate:
        """Return it as an estimate."""
        work = self.hours * 3600
        return Estimate(work * self.serial, work * (1 - self.serial), self.memory_bytes, SPREAD_GIANT)


@cache
def giants() -> Mapping[str, Giant]:
    """Return the shipped table, by normalised project name."""
    text = Path(__file__).with_name("giants.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if line and not line.startswith("#"))
    return {
        row["project"]: Giant(
            float(row["hours"]), float(row["serial"]), round(float(row["memory_gb"]) * 1_000_000_000)
        )
        for row in rows
    }


def from_source(features: SdistFeatures) -> Estimate:
    """Return what the sdist's file list suggests."""
    if not features.readable:
        # Its build will fail at once, or is of a format not known here.
        work = BASE_S + features.size / 2**20 * UNREADABLE_S_PER_MIB
        return Estimate(work * 0.2, work * 0.8, UNKNOWN.memory_bytes, SPREAD_UNKNOWN)
    parts = {
        language: size / 1024 * SECONDS_PER_KIB[language]
        for language, size in features.source.items()
        # Cython whose C is shipped is not counted twice.
        if language is not Language.CYTHON or features.source.get(Language.C, 0) < 4 * size
    }
    if features.cargo:
        parts[Language.RUST] = parts.get(Language.RUST, 0.0) + RUST_S
    total = sum(parts.values())
    serial = BASE_S + sum(SERIAL[language] * seconds for language, seconds in parts.items())
    # The hungriest language that is more than a trace decides: all tasks may be of it at once.
    memory = max(
        (MEMORY[language] for language, seconds in parts.items() if seconds > 0.1 * total),
        default=MEMORY[Language.C],
    )
    return Estimate(serial, BASE_S + total - serial, memory, SPREAD_SOURCE)


def cold_estimate(
    project: str, features: SdistFeatures | None, table: Mapping[str, Giant] | None = None
) -> Estimate:
    """Return the estimate of a build of which the farm has no history."""
    if giant := (giants() if table is None else table).get(project):
        return giant.estimate()
    return UNKNOWN if features is None else from_source(features)
