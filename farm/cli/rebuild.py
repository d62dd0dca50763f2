"""What `farm verify --rebuild` does and prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from farm import service
from farm.cli.common import errors, print_json, say
from farm.nodes import read_fleet
from farm.paths import Paths
from farm.rebuild import Rebuilt
from farm.upstream import Upstream


def verify_by_rebuild(
    subjects: Sequence[str],
    inventory: Path,
    state: Path | None,
    upstream: str,
    keys: Path | None,
    *,
    as_json: bool,
) -> bool:
    """Build each job or wheel again and print how it compares; returns whether all are bit-identical."""
    nodes, paths = read_fleet(inventory).builders, Paths.of(inventory, state)
    found: list[Rebuilt] = []
    for subject in subjects:
        done = service.rebuild(
            subject,
            nodes=nodes,
            paths=paths,
            upstream=Upstream(upstream),
            keys=keys,
            note=lambda text: errors.print(text, markup=False, highlight=False, soft_wrap=True),
        )
        found.append(done)
        if not as_json:
            _show(done)
    if as_json:
        print_json([rebuilt_json(done) for done in found])
    return all(done.comparison.identical for done in found)


def rebuilt_json(done: Rebuilt) -> dict[str, object]:
    """Return a rebuild for programs."""
    return {
        "job": done.job_id,
        "first_node": done.first_node,
        "node": done.node,
        "same_node": bool(done.why_same),
        "why_same_node": done.why_same,
        "first": str(done.first),
        "second": str(done.second),
        **done.comparison.to_json(),
        "surroundings": done.surroundings,
        "diffoscope": str(done.diffoscope) if done.diffoscope else None,
    }


def _show(done: Rebuilt) -> None:
    comparison = done.comparison
    where = "the same node" if done.why_same else "another node"
    if comparison.identical:
        sha256 = comparison.sha256[0]
        say(f"{done.job_id}: bit-identical on {where}, {done.node}: {comparison.first} sha256 {sha256}")
        return
    say(f"{done.job_id}: DIFFERS on {where}, {done.node}: {len(comparison.differences)} differences")
    for item in comparison.differences:
        first, *rest = item.detail.splitlines()
        say(f"  {item.kind}: {item.member or comparison.first}: {first}")
        for line in rest:
            say(f"      {line}")
    for text in done.surroundings:
        say(f"  built with other tools: {text}")
    say(f"  first: {done.first}")
    say(f"  second: {done.second}")
    if done.diffoscope:
        say(f"  diffoscope: {done.diffoscope}")
