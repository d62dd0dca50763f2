"""Commands about the machines."""

from __future__ import annotations

from typing import Annotated

import typer

from farm import controller, service
from farm.cli.common import (
    INVENTORY,
    AsJson,
    Inventory,
    NodeNames,
    State_,
    console,
    known_nodes,
    print_json,
    say,
    show_error,
)
from farm.display import table
from farm.errors import ExitCode, NodeError
from farm.nodes import read_fleet, unfit
from farm.paths import Paths
from farm.provision import provision as run_playbook
from farm.store import Mark
from farm.views import NODE_COLUMNS, node_json, node_remarks, node_row

app = typer.Typer()


@app.command()
def provision(
    nodes: Annotated[list[str] | None, typer.Argument(metavar="[NODE]...")] = None,
    inventory: Inventory = INVENTORY,
    playbook: Annotated[str, typer.Option(help="playbook to run")] = "site.yml",
) -> None:
    """Bring machines to the state the farm needs (Ansible); may be run at any time."""
    run_playbook(inventory, nodes or (), playbook)


@app.command("nodes")
def show_nodes(inventory: Inventory = INVENTORY, state: State_ = None, as_json: AsJson = False) -> None:
    """Ask every builder what it is and whether it may be given jobs."""
    builders = read_fleet(inventory).builders
    probes = service.probe_all(builders)
    found = {node: probes[node.name].answer for node in builders}
    with controller.open_store(Paths.of(inventory, state), looking=True) as store:
        marks = store.marks()
    if as_json:
        print_json(
            {node.name: node_json(node, facts, marks.get(node.name, {})) for node, facts in found.items()}
        )
    else:
        rows = [node_row(node, facts, marks.get(node.name, {})) for node, facts in found.items()]
        console.print(table(*NODE_COLUMNS, rows=rows))
        for node, facts in found.items():
            for remark in node_remarks(node, facts, marks.get(node.name, {})):
                say(remark)
            for warning in probes[node.name].warnings:
                say(f"{node.name}: {warning}")
    for facts in found.values():
        if isinstance(facts, NodeError):
            show_error(facts)
    if any(isinstance(facts, NodeError) or unfit(facts, node) for node, facts in found.items()):
        raise typer.Exit(ExitCode.NODE)


@app.command()
def drain(
    nodes: NodeNames,
    inventory: Inventory = INVENTORY,
    state: State_ = None,
    reason: Annotated[str, typer.Option(help="shown by `farm nodes`")] = "drained by hand",
) -> None:
    """Give nodes no new jobs; what they build now goes on."""
    names = known_nodes(read_fleet(inventory), nodes)
    with controller.open_store(Paths.of(inventory, state)) as store:
        for name in names:
            store.mark(name, Mark.DRAINED, reason)
            left = [job.job_id for job in store.jobs(ended=False) if job.state.on_node and job.node == name]
            builds = f"still builds {', '.join(left)}" if left else "builds nothing now"
            say(f"{name}: drained; {builds}")


@app.command()
def resume(nodes: NodeNames, inventory: Inventory = INVENTORY, state: State_ = None) -> None:
    """Give drained or quarantined nodes jobs again; a quarantined one is probed first."""
    names = known_nodes(read_fleet(inventory), nodes)
    with controller.open_store(Paths.of(inventory, state)) as store:
        for name in names:
            marks = store.marks().get(name, {})
            store.unmark(name, *Mark)
            say(f"{name}: takes jobs again" if marks else f"{name}: was neither drained nor in quarantine")
