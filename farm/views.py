"""The farm's things as table rows for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from rich.text import Text

from farm.errors import NodeError
from farm.nodes import Facts, unfit
from farm.service import Planned
from farm.store import Job, Mark, NodeMark

Marks = Mapping[Mark, NodeMark]
NODE_COLUMNS = (
    "node",
    "state",
    "board",
    "ISA",
    "cores",
    "speed",
    "memory",
    "Pythons",
    "toolchains",
    "load",
    "disk free",
)


def node_row(name: str, facts: Facts | NodeError, marks: Marks) -> list[str | Text]:
    """Return a node's cells for `farm nodes`; ``marks`` say why it gets no new jobs."""
    if isinstance(facts, NodeError):
        return [name, _kept_out(marks) or Text("unreachable", "red")]
    why = unfit(facts)
    return [
        name,
        Text(why, "red") if why else _kept_out(marks) or Text("ready", "green"),
        f"{facts.model}, {facts.os}" if facts.model else facts.os,
        facts.isa.split("_")[0],
        str(facts.cores),
        f"{facts.speed:.2f}" if facts.speed else "?",
        f"{facts.memory_bytes / 2**30:.1f} GiB",
        " ".join(facts.pythons),
        (
            f"gcc {facts.gcc}{_natively(facts, 'cc1')}, "
            f"{facts.rustc.split(' (')[0] or 'no rustc'}{_natively(facts, 'rustc')}"
        ),
        f"{facts.load:.2f}",
        f"{facts.disk_free_bytes / 2**30:.1f} GiB",
    ]


def _kept_out(marks: Marks) -> Text | None:
    if not marks:
        return None
    return Text("; ".join(f"{mark.mark}: {mark.reason}" for mark in marks.values()), "yellow")


def _natively(facts: Facts, compiler: str) -> str:
    """Return what to say of a compiler that was built for another processor than the node's."""
    machine = facts.compilers.get(compiler, facts.machine)
    return "" if machine == facts.machine else f" (runs as {machine})"


def node_json(facts: Facts | NodeError, marks: Marks) -> dict[str, object]:
    """Return a node for `farm nodes --json`."""
    kept_out = {str(mark.mark): {"reason": mark.reason, "since": mark.since} for mark in marks.values()}
    if isinstance(facts, NodeError):
        return {"error": facts.message, "hint": facts.hint, "marks": kept_out}
    content = asdict(facts)
    content["apt_packages"] = sorted(facts.apt_packages)
    return {**content, "unfit": unfit(facts), "marks": kept_out}


def planned_json(item: Planned) -> dict[str, object]:
    """Return a decision for `farm plan --json`."""
    choice, error = item.choice, item.error
    return {
        "requirement": item.requirement,
        "python": item.python.tag,
        "project": choice.project if choice else None,
        "version": str(choice.version) if choice else None,
        "build": choice.build if choice else False,
        "reason": choice.reason if choice else error.message if error else None,
    }


def job_json(job: Job, result: Mapping[str, object]) -> dict[str, object]:
    """Return a job for `farm status --json`; ``result`` is what its node said of it."""
    return {
        "job": job.job_id,
        "project": job.spec.project,
        "version": job.spec.version,
        "python": job.spec.python,
        "state": job.state,
        "node": job.node,
        "attempt": job.attempt,
        "width": job.width,
        "failure": job.failure,
        "message": job.message,
        "duration_s": job.duration_s,
        "queued_at": job.queued_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "wheel": job.wheel,
        "sha256": job.wheel_sha256,
        "phases_s": result.get("phases_s", {}),
        "processor_s": result.get("processor_s", {}),
        "toolchain": result.get("toolchain", {}),
    }


def outcome(ok: bool) -> Text:
    """Return a gate's outcome as a word."""
    return Text("pass", "green") if ok else Text("FAIL", "bold red")
