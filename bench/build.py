"""How long builds take and what shortens them: native against emulated compilers, warm against cold caches.

    python -m bench.build [-i INVENTORY] [--node NODE] [--json] [REQ ...]

Needs one provisioned virtual board, which nobody else uses meanwhile: its compilers are switched between
native and emulated. Each project is built emulated, native, native again (warm) and with debug information,
in one run; wheels of the first two are compared file by file. Progress goes to stderr; the last line of
stdout is one JSON object. The default projects take about 20 minutes on two processors.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.kit import INVENTORY, NATIVE_WIRE, Built, build, changed, forget_caches, on_node, specs_of
from farm.nodes import Node, read_fleet
from farm.paths import own_programs_first
from farm.plan import JobSpec

PROJECTS: Final = ("msgspec==0.21.0", "contourpy==1.3.3", "textual-speedups==0.2.1")
# Cargo tells apart what is built with a target and what without one; the native cargo always has one.
RUST_TARGET: Final = {"CARGO_BUILD_TARGET": "riscv64gc-unknown-linux-gnu"}


@dataclass(frozen=True, slots=True)
class Figures:
    """What one project showed; ratios of processor seconds, but for ``warm_vs_cold`` (wall time)."""

    project: str
    native_vs_emulated: float
    g0_vs_g: float
    rebuild_warm_vs_cold: float
    lease_to_compiler_s: dict[str, float]
    emulated_s: float
    native_s: float
    differing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bench:
    """A board, and how it is prepared for a build."""

    inventory: Path
    node: Node
    console: Console

    def measure(self, spec: JobSpec) -> Figures:
        """Build a project in all ways."""
        emulated = self.emulated(changed(spec, environment={**spec.recipe.environment, **RUST_TARGET}))
        native, warm = self.cold(spec), self.build(spec)
        debug = self.cold(changed(spec, debug=True))
        return Figures(
            project=f"{spec.project}=={spec.version}",
            native_vs_emulated=round(emulated.processor_s / native.processor_s, 2),
            g0_vs_g=round(debug.processor_s / native.processor_s, 2),
            rebuild_warm_vs_cold=round(native.duration_s / warm.duration_s, 2),
            lease_to_compiler_s=warm.lease_to_compiler_s(),
            emulated_s=round(emulated.processor_s, 1),
            native_s=round(native.processor_s, 1),
            differing=differing(emulated, native) + differing(native, warm),
        )

    def emulated(self, spec: JobSpec) -> Built:
        """Build with the board's own compilers; afterwards they are native again."""
        on_node(self.inventory, self.node, f"{NATIVE_WIRE} /nonexistent")
        try:
            return self.cold(spec)
        finally:
            on_node(self.inventory, self.node, NATIVE_WIRE)

    def cold(self, spec: JobSpec) -> Built:
        """Build with empty caches."""
        forget_caches(self.inventory, self.node, spec)
        return self.build(spec)

    def build(self, spec: JobSpec) -> Built:
        """Build with whatever the caches hold."""
        return build([spec], [self.node], self.console).built[0]


def differing(one: Built, other: Built) -> tuple[str, ...]:
    """Return the files of two wheels that are not in both with the same bytes."""
    names = sorted({*one.content, *other.content})
    return tuple(name for name in names if one.content.get(name) != other.content.get(name))


def main() -> int:
    """Measure all projects; 1 if wheels differ."""
    own_programs_first()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-i", "--inventory", type=Path, default=INVENTORY)
    parser.add_argument("--node", help="name of the builder; default: the first")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object on stdout")
    parser.add_argument("requirements", nargs="*", default=list(PROJECTS))
    options = parser.parse_args()
    console = Console(stderr=True)
    nodes = read_fleet(options.inventory).builders
    node = next(node for node in nodes if options.node in {None, node.name})
    bench = Bench(options.inventory, node, console)
    found = []
    for spec in specs_of(options.requirements):
        found.append(bench.measure(spec))
        if not options.json:
            print(found[-1], flush=True)
    print(json.dumps(summary(found)))
    return 1 if any(item.differing for item in found) else 0


def summary(found: list[Figures]) -> dict[str, object]:
    """Return the figures by kind and project."""

    def by_project(name: str) -> dict[str, object]:
        return {item.project: getattr(item, name) for item in found}

    same = [item.project for item in found if not item.differing]
    return {
        "native_vs_emulated": by_project("native_vs_emulated"),
        "g0_vs_g": by_project("g0_vs_g"),
        "rebuild_warm_vs_cold": by_project("rebuild_warm_vs_cold"),
        "lease_to_compiler_s": by_project("lease_to_compiler_s"),
        "processor_s": {item.project: [item.emulated_s, item.native_s] for item in found},
        "identical": {
            "compared": len(found),
            "identical": len(same),
            "differing": {item.project: item.differing for item in found if item.differing},
        },
    }


if __name__ == "__main__":
    sys.exit(main())
