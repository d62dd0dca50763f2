"""Does a second board help? The same builds on one board, one after the other, and on all boards at once.

    python -m bench.boards [-i INVENTORY] [REQ ...]

Needs provisioned builders. Prints progress on stderr and one JSON object on stdout. Virtual boards share
the processors of this machine, so there the ratio says how well the farm fills them; on real boards it
approaches their number.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from bench.kit import INVENTORY, build, specs_of
from farm.nodes import read_fleet
from farm.paths import own_programs_first


def main() -> None:
    """Run both ways and print the ratio of their wall times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-i", "--inventory", type=Path, default=INVENTORY)
    parser.add_argument("requirements", nargs="*", default=["msgspec==0.21.0", "ujson==6.1.0"])
    options = parser.parse_args()
    own_programs_first()
    console = Console(stderr=True)
    nodes = read_fleet(options.inventory).builders
    specs = specs_of(options.requirements)
    one = build(specs, nodes[:1], console)
    together = build(specs, nodes, console)
    figures = {
        "projects": [f"{spec.project}=={spec.version}" for spec in specs],
        "nodes": len(nodes),
        "one_after_the_other_s": round(one.wall_s, 1),
        "together_s": round(together.wall_s, 1),
        "ratio": round(one.wall_s / together.wall_s, 2),
        "node_time_together_s": round(together.node_s, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
