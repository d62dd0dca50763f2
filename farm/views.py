"""The farm's things as table rows for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Final

from rich.text import Text

from farm.errors import NodeError
from farm.nodes import Facts, Node, unfit
from farm.service import Planned
from farm.store import Job, Mark, NodeMark
from farm.verify import Gate, Report
from farm.verify.model import printable
from farm.verify.remote import Unread
from farm.verify.summary import in_one_line

Marks = Mapping[Mark, NodeMark]
_GATE_WIDTH: Final = max(len(gate) for gate in Gate)
NODE_COLUMNS = ("node", "state", "board", "ISA", "cores", "memory", "load", "disk", "sandbox")


def node_row(node: Node, facts: Facts | NodeError, marks: Marks) -> list[str | Text]:
    """Return a node's cells for `farm nodes`; why it is not ready is said below the table."""
    if isinstance(facts, NodeError):
        return [node.name, Text("unreachable", "red")]
    state = Text("unfit", "red") if unfit(facts, node) else Text("ready", "green")
    if marks and not unfit(facts, node):
        state = Text(" ".join(marks), "yellow")
    speed = f" x{facts.speed:.1f}" if facts.speed else ""
    return [
        node.name,
        state,
        facts.model or facts.os,
        facts.isa.split("_")[0],
        f"{facts.cores}{speed}",
        f"{facts.memory_bytes / 2**30:.0f}G",
        f"{facts.load:.1f}",
        f"{facts.disk_free_bytes / 2**30:.0f}G",
        Text("yes", "green") if facts.sandboxed else Text("none", "yellow"),
    ]


def node_remarks(node: Node, facts: Facts | NodeError, marks: Marks) -> list[str]:
    """Return what there is to say of a node below the table."""
    name = node.name
    remarks = [f"{name}: {mark.mark}: {mark.reason}" for mark in marks.values()]
    if isinstance(facts, NodeError):
        return remarks
    tools = f"gcc {facts.gcc}, {' '.join(facts.rustc.split()[:2]) or 'no rustc'}"
    others = sorted({machine for machine in facts.compilers.values() if machine != facts.machine})
    native = f" (run as {', '.join(others)}, not under emulation)" if others else ""
    remarks.insert(0, f"{name}: {facts.os}; {' '.join(facts.pythons)}; {tools}{native}")
    if why := unfit(facts, node):
        remarks.append(f"{name}: unfit: {why}")
    elif not facts.sandboxed:
        remarks.append(f"{name}: builds run without a sandbox, as the inventory allows: {facts.sandbox}")
    if facts.units:
        remarks.append(f"{name}: builds have no limit of memory and processes: {facts.units}")
    if facts.speed is None:
        remarks.append(f"{name}: its speed was never measured; `farm provision {name}` does it")
    return remarks


def node_json(node: Node, facts: Facts | NodeError, marks: Marks) -> dict[str, object]:
    """Return a node for `farm nodes --json`."""
    kept_out = {str(mark.mark): {"reason": mark.reason, "since": mark.since} for mark in marks.values()}
    if isinstance(facts, NodeError):
        return {"error": facts.message, "hint": facts.hint, "marks": kept_out}
    content = asdict(facts)
    content["apt_packages"] = sorted(facts.apt_packages)
    return {**content, "sandboxed": facts.sandboxed, "unfit": unfit(facts, node), "marks": kept_out}


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


def verified_json(result: Report | Unread) -> dict[str, object]:
    """Return a wheel's verdicts for `farm verify --json`."""
    if isinstance(result, Report):
        return {**asdict(result), "ok": result.ok}
    return {
        "wheel": result.subject,
        "ok": False,
        "error": result.error.message,
        "hint": result.error.hint,
        "verdicts": [],
    }


def report_lines(report: Report, *, everything: bool = False) -> Iterator[Text]:
    """Yield a wheel's verdicts as lines: failures and remarks in full, what passed gate by gate.

    With ``everything``, each verdict has its line.
    """
    yield Text.assemble((report.wheel, "bold"), ": ", _outcome(report.ok))
    for gate in Gate:
        verdicts = [verdict for verdict in report.verdicts if verdict.gate is gate]
        passed = [verdict for verdict in verdicts if verdict.ok and not verdict.hint]
        if passed and not everything:
            yield _line(Text("pass", "green"), gate, in_one_line([verdict.evidence for verdict in passed]))
            verdicts = [verdict for verdict in verdicts if verdict not in passed]
        for verdict in verdicts:
            word = _outcome(verdict.ok) if not verdict.ok or not verdict.hint else Text("note", "yellow")
            about = "" if verdict.subject == report.wheel else f"{verdict.subject}: "
            yield _line(word, gate, f"{about}{verdict.evidence}")
            if verdict.hint and (everything or not verdict.ok):
                yield _line(Text("    "), "", f"fix: {verdict.hint}")


def _line(word: Text, gate: str, text: str) -> Text:
    return Text.assemble("  ", word, f"  {gate:{_GATE_WIDTH}}  ", printable(text))


def _outcome(ok: bool) -> Text:
    return Text("pass", "green") if ok else Text("FAIL", "bold red")
