"""Build a job's wheel once more, on another node if there is one, and say whether the bits are the same.

A rebuild is an attempt that no store knows: it never publishes, and what a killed one leaves on a node is
removed by the next dispatch, which finds there an attempt that is nobody's.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from farm.dispatch import placing
from farm.dispatch.experience import Experience
from farm.dispatch.logs import Logs
from farm.dispatch.visit import Errand, Visit, visit
from farm.errors import FarmError, InputError, LyingNodeError, NodeError
from farm.executor import AttemptState, Build, Executor, Launch
from farm.nodes import Facts, Node, unfit
from farm.paths import Paths
from farm.provenance.check import check_provenance
from farm.provenance.names import PROVENANCE
from farm.provenance.record import BuildRecord, parse_record
from farm.provenance.stated import stated_build
from farm.recipe import Recipe
from farm.schedule import unmet
from farm.schedule.widths import Widths
from farm.store import Job, State, Store
from farm.upstream import sha256_of
from farm.verify.compare import Comparison, compare_wheels

POLL_S: Final = 1.0
LINK_TRIES: Final = 5
LINK_WAIT_S: Final = 2.0
DIFFOSCOPE_S: Final = 600


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a rebuild runs; ``why_same`` says why no other node takes it, and is empty where one does."""

    launch: Launch
    node: Node
    executor: Executor
    why_same: str


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How a rebuild compares with the build it repeats."""

    job_id: str
    first_node: str
    node: str
    why_same: str
    first: Path
    second: Path
    comparison: Comparison
    surroundings: tuple[str, ...]
    """In what the two builds' tools differed, in words."""
    diffoscope: Path | None
    """Its report, where it is installed and the wheels differ."""


@dataclass(frozen=True, slots=True)
class First:
    """The build that is repeated.

    ``job`` has the width it was built with; ``record`` is what its node wrote down, None if that is lost.
    """

    job: Job
    wheel: Path
    node: str
    record: BuildRecord | None


def rebuild(
    subject: str,
    *,
    store: Store,
    executors: Mapping[Node, Executor],
    paths: Paths,
    fetch: Callable[[Job], Path],
    note: Callable[[str], None],
    keys: Sequence[Ed25519PublicKey] = (),
) -> Rebuilt:
    """Build again what ``subject`` names, a job or a wheel file that one made; the caller holds the farm.

    The versions of the first build's environment are asked for again, so that only the build is compared. A
    wheel that no job of the store made is built as the provenance beside it says, if one of ``keys`` signed
    that.

    Raises:
        InputError: no job is meant, or it has no wheel.
        WheelError: the provenance does not hold, or does not say enough.
        NodeError: no node can take it, or the one that did was lost.
        FarmError: the rebuild itself failed.
    """
    first = find(subject, store, paths, keys)
    job = first.job
    if first.record is None:
        note(f"{job.job_id}: its build was not recorded: the newest build requirements are taken")
    again = replace(job, spec=replace(job.spec, recipe=_pinned(job, first.record)))
    chosen = _choose(again, first.node, store, executors, fetch(job))
    if chosen.why_same:
        note(f"the same node builds again: {chosen.why_same}")
    note(f"{job.job_id}: built on {first.node}, again on {chosen.node.name}")
    second = _run(chosen, paths)
    comparison = compare_wheels(first.wheel, second)
    return Rebuilt(
        job.job_id,
        first.node,
        chosen.node.name,
        chosen.why_same,
        first.wheel,
        second,
        comparison,
        surroundings(first.record, _record(paths, chosen.launch.attempt_id)),
        None if comparison.identical else _diffoscope(first.wheel, second),
    )


def find(subject: str, store: Store, paths: Paths, keys: Sequence[Ed25519PublicKey] = ()) -> First:
    """Return the build that is meant: of a job, or of a wheel file, by the store or else by its provenance.

    Raises:
        InputError: there is none, or its wheel is gone.
        WheelError: the provenance beside the wheel does not hold, or does not say enough.
    """
    path = Path(subject)
    if path.is_file():
        sha256 = sha256_of(path)
        known = next((job for job in store.jobs() if job.wheel_sha256 == sha256), None)
        return _known(known, path, store, paths) if known else _stated(path, sha256, keys)
    job = store.job(subject)
    return _known(job, _wheel_of(job, paths), store, paths)


def _known(job: Job, wheel: Path, store: Store, paths: Paths) -> First:
    attempt = store.attempt(job.job_id)
    job = replace(job, widths=Widths(max(1, attempt.widths.first)))
    return First(job, wheel, attempt.node, _record(paths, job.attempt_id))


def _stated(wheel: Path, sha256: str, keys: Sequence[Ed25519PublicKey]) -> First:
    beside = wheel.with_name(wheel.name + PROVENANCE)
    if not beside.is_file():
        raise InputError(
            f"{wheel.name}: no job of this farm built these bytes (sha256 {sha256[:12]})",
            hint=f"name a job of `farm status`, or put {beside.name} of its index beside it",
        )
    build = stated_build(check_provenance(beside.read_bytes(), wheel.name, sha256, keys), wheel.name)
    job = Job(
        job_id=build.spec.job_id,
        spec=build.spec,
        state=State.PUBLISHED,
        attempt=build.attempt,
        node=build.node,
        widths=Widths(build.record.width),
        failure=None,
        message="",
        queued_at=0.0,
        started_at=None,
        ended_at=None,
        wheel=wheel.name,
        wheel_sha256=sha256,
        cancelling=False,
    )
    return First(job, wheel, build.node, build.record)


def _wheel_of(job: Job, paths: Paths) -> Path:
    """Return the wheel of a job. Raises InputError: it has none, or it is gone."""
    if job.wheel is None:
        raise InputError(
            f"{job.job_id}: it has no wheel, it is {job.state}", hint="`farm dispatch` builds it"
        )
    for wheel in (
        paths.wheels(job.attempt_id) / job.wheel,
        paths.tree / "packages" / job.spec.project / job.wheel,
    ):
        if wheel.is_file():
            return wheel
    raise InputError(f"{job.job_id}: its wheel is gone: {job.wheel}", hint="`farm dispatch` builds it anew")


def surroundings(first: BuildRecord | None, second: BuildRecord | None) -> tuple[str, ...]:
    """Say in which tools two builds differed (pure); nothing where one of them was not recorded."""
    if first is None or second is None:
        return ()
    pairs = (
        ("gcc", first.compiler.gcc, second.compiler.gcc),
        ("default -march", first.compiler.gcc_march, second.compiler.gcc_march),
        ("rustc", first.compiler.rustc, second.compiler.rustc),
        ("Python", first.python, second.python),
        ("system", first.board.os, second.board.os),
        ("SOURCE_DATE_EPOCH", first.source_date_epoch, second.source_date_epoch),
    )
    found = [
        f"{name}: {mine or 'none'}, then {theirs or 'none'}" for name, mine, theirs in pairs if mine != theirs
    ]
    for name, one, other in (
        ("build environment", first.environment, second.environment),
        ("tools", first.tools, second.tools),
    ):
        if changed := sorted(set(one) ^ set(other)):
            found.append(f"{name}: {', '.join(changed)}")
    return tuple(found)


def _record(paths: Paths, attempt_id: str) -> BuildRecord | None:
    path = paths.record(attempt_id)
    return parse_record(path.read_bytes(), attempt_id) if path.exists() else None


def _pinned(job: Job, record: BuildRecord | None) -> Recipe:
    """Return the recipe with the first build's versions; nothing of a compilation is taken from a cache."""
    recipe = job.spec.recipe
    pins = record.environment if record else []
    anew = {"CCACHE_RECACHE": "1", "SCCACHE_RECACHE": "1"}
    return replace(
        recipe,
        build_constraints=[*recipe.build_constraints, *pins],
        environment={**recipe.environment, **anew},
    )


# -- where --------------------------------------------------------------------------------------------------


def _choose(
    job: Job, first_node: str, store: Store, executors: Mapping[Node, Executor], sdist: Path
) -> Choice:
    """Return a node that can take the job, another one than the first if there is one."""
    marks = store.marks()
    whys: dict[str, str] = {}
    known: dict[str, Facts] = {}
    launches: dict[Node, Launch] = {}
    for node, executor in executors.items():
        if node.name in marks:
            whys[node.name] = f"{node.name} is {next(iter(marks[node.name]))}"
            continue
        try:
            known[node.name] = executor.prepare()
            launches[node] = _launch(job, node, known[node.name], store, sdist)
        except NodeError as error:
            whys[node.name] = error.message
    if not launches:
        whole = "; ".join(whys.values()) or "the inventory has no builder"
        raise NodeError("every node", f"can't build it again: {whole}", hint="`farm nodes` says more")

    def rank(node: Node) -> tuple[bool, float, str]:
        facts = known[node.name]
        return _is_same(node.name, first_node, known), facts.load / facts.cores, node.name

    node = min(launches, key=rank)
    why = "; ".join(whys.values()) or "there is no other one"
    return Choice(launches[node], node, executors[node], why if rank(node)[0] else "")


def _is_same(name: str, first: str, known: Mapping[str, Facts]) -> bool:
    """Return whether this is the first node, or that machine under another name (F11)."""
    return name == first or (first in known and known[name].machine_id == known[first].machine_id != "")


def _launch(job: Job, node: Node, facts: Facts, store: Store, sdist: Path) -> Launch:
    """Return the attempt for a node; NodeError says why it can't be there."""
    if why := unfit(facts, node):
        raise NodeError(node.name, f"unfit: {why}")
    experience = Experience(store, time.time())
    experience.meet(node.name, facts)
    estimate = placing.corrected(
        experience.estimate(job.spec, sdist), job.spec.recipe, {}, placing.build_memory(facts)
    )
    needs = placing.needs_of(job.spec, estimate, sdist.stat().st_size)
    state = placing.node_state(node, facts, experience.speed(node.name))
    if lacks := unmet(needs, state):
        raise NodeError(node.name, ", ".join(lacks))
    job = replace(job, widths=Widths(min(job.width, facts.cores)))
    task = Build(job.spec, job.attempt, sdist, job.width)
    attempt_id = f"{job.job_id}.rebuild-{secrets.token_hex(4)}"
    return Launch(attempt_id, task, placing.limits(job, job.width, estimate, needs, state))


# -- doing it -----------------------------------------------------------------------------------------------


def _run(chosen: Choice, paths: Paths) -> Path:
    """See the attempt through, and return its wheel."""
    attempt_id = chosen.launch.attempt_id
    try:
        return _followed(chosen, paths)
    finally:
        with contextlib.suppress(NodeError):  # the next dispatch ends it, if this can't
            chosen.executor.cancel(attempt_id)
            chosen.executor.forget(attempt_id)


def _followed(chosen: Choice, paths: Paths) -> Path:
    attempt_id, logs = chosen.launch.attempt_id, Logs(paths)
    launches: tuple[Launch, ...] = (chosen.launch,)
    lost = 0
    while True:
        errand = Errand(
            prepare=False,
            cancel=(),
            forget=(),
            launches=launches,
            offsets={attempt_id: logs.size(attempt_id)},
            wait_s=POLL_S,
        )
        try:
            done = visit(chosen.node.name, chosen.executor, errand, paths)
        except LyingNodeError:
            raise
        except NodeError:
            lost += 1
            if lost >= LINK_TRIES:
                raise
            time.sleep(LINK_WAIT_S)
            continue
        lost, launches = 0, ()
        wheel = _news(chosen, done, logs, paths)
        if wheel is not None:
            return wheel


def _news(chosen: Choice, done: Visit, logs: Logs, paths: Paths) -> Path | None:
    attempt_id = chosen.launch.attempt_id
    for error in (*done.uncollected.values(), *done.not_started.values()):
        raise error
    for item in done.progress:
        if item.log:
            logs.append(attempt_id, item.log)
        if item.more:
            continue
        if item.state in {AttemptState.LOST, AttemptState.UNKNOWN}:
            raise NodeError(chosen.node.name, "it lost the rebuild; was it restarted?", hint="start it again")
        if item.result is not None and item.result.failure is not None:
            raise FarmError(
                f"the rebuild on {chosen.node.name} failed ({item.result.failure}): {item.result.message}",
                hint=f"its log: {paths.log(attempt_id)}",
            )
    return done.collected.get(attempt_id)


def _diffoscope(first: Path, second: Path) -> Path | None:
    """Let diffoscope write its report beside the second wheel, where it is installed."""
    program = shutil.which("diffoscope")
    if program is None:
        return None
    report = second.with_name("diffoscope.txt")
    command = [program, "--text", str(report), str(first), str(second)]
    try:
        subprocess.run(command, check=False, capture_output=True, timeout=DIFFOSCOPE_S)
    except subprocess.TimeoutExpired:
        return None
    return report if report.exists() else None
