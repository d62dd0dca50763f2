"""Prove one wheel: install it as a user does, import what it brings, run its tests, on each processor."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGILL
from typing import BinaryIO, Final

from farm.cleanroom.fault import Fault
from farm.cleanroom.install import installed, pip_command, refusal
from farm.cleanroom.libraries import described, install_hint, missing
from farm.cleanroom.modules import modules_of
from farm.cleanroom.room import ILLEGAL, NO_WHEEL, VECTOR_LENGTH, CleanRoom, RoomError
from farm.cleanroom.sources import copy_sources, shadowed
from farm.cleanroom.stage import Imported, Stage, trial_folder
from farm.cleanroom.watch import Ended
from farm.errors import InputError, WheelError
from farm.recipe import DEFAULT, Recipe, runs_pytest
from farm.verify.isa import settle
from farm.verify.model import Gate, Report, Verdict
from farm.verify.platform import PackageLookup
from farm.verify.wheel import Archive, read_archive
from farm.wheel_name import parse_name

_UNFIT: Final = frozenset(
    {Gate.READABLE, Gate.NAME, Gate.PATHS, Gate.METADATA, Gate.RECORD, Gate.ELF, Gate.JOB}
)
_CRASHES: Final = 5
_VECTORS: Final = "v=true"
_SAID: Final = 3
_LONGEST: Final = 400
_NO_TESTS: Final = 5  # pytest's exit code where it found none
_ILLEGAL: Final = ("SIGILL", "llegal instruction", "signal 4")
_FIX_ISA: Final = "build it for rv64gc, or let it ask the kernel (riscv_hwprobe) before it uses more"
_FIX_IMPORT: Final = (
    "see the log; if it can't be imported anywhere, name it in the recipe's import_skip with the reason"
)
_FIX_LENGTH: Final = "vector code must take what vsetvli returns, and never suppose how many elements that is"
_FIX_SOURCES: Final = "name the files and folders of the sdist that are its tests, and nothing else"
_FIX_TESTS: Final = (
    "see the log; what fails on every machine goes into the recipe's known_failures with the reason"
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is to be proved.

    Attributes:
        wheel: the wheel; its bytes are what is installed.
        index_url: simple index that its dependencies come from.
        recipe: its tests, known failures and modules to leave out.
        python_tag: ``cp313`` or alike; empty: the newest of the room that takes the wheel.
        beside: more wheels that dependencies may be taken from, before the index has them.
        sdist: what the wheel was built from; without it, tests that the recipe takes from it are not run.
        no_sdist: why it can't be had, where the recipe takes tests from it.
        packages: maps missing libraries to Debian packages, for messages.
    """

    wheel: Path
    index_url: str
    recipe: Recipe = DEFAULT
    python_tag: str = ""
    beside: tuple[Path, ...] = ()
    sdist: Path | None = None
    no_sdist: str = ""
    packages: PackageLookup | None = None


def prove(room: CleanRoom, trial: Trial, log: Path) -> tuple[Verdict, ...]:
    """Install, import and test a wheel in the clean room; all output goes to ``log``.

    Returns the verdicts of the gates IMPORT and, where the recipe has a ``test_command`` and all imports
    passed, EXECUTION: one for each processor, and one for each module that failed. A processor after the
    first one is only tried when the first one passed. The first verdict and each failure name the log.

    Raises:
        RoomError: the room is at fault; nothing is known of the wheel.
        WheelError: the file is no wheel (the static gates say so first).
        InputError: the log can't be written.
    """
    name = parse_name(trial.wheel.name)
    archive = read_archive(trial.wheel)
    tag, python = room.python_for(name, trial.python_tag)
    room.check()
    with _opened(log) as output, trial_folder(room, [trial.wheel, *trial.beside]) as folder:
        proof = _Proof(room, trial, archive, Stage(room, folder, output), folder)
        verdicts = tuple(proof.verdicts(tag, python))
    with log.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()

    def told(verdict: Verdict) -> Verdict:
        if verdict.ok and verdict is not verdicts[0]:
            return verdict
        # What passed is published, and nobody else is to know where this controller keeps its files.
        where = log.name if verdict.ok else log
        return replace(verdict, evidence=f"{verdict.evidence}; log {where} sha256 {sha256}")

    return tuple(map(told, verdicts))


def _opened(log: Path) -> BinaryIO:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("wb")
    except OSError as error:
        raise InputError(
            f"{log}: {error.strerror}", hint="name a folder for logs that can be written"
        ) from error


def proved(report: Report, room: CleanRoom, trial: Trial, log: Path) -> Report:
    """Return a report of the static gates with what the clean room adds.

    A wheel that is no whole riscv64 wheel is not run; one that only asks for too much of the machine is.
    Files that the recipe calls guarded at run time are so once imports and tests have passed on every core,
    the one that is plain rv64gc among them; imports alone prove too little.

    Raises:
        RoomError: the room is at fault; nothing more is known of the wheel.
    """
    if {verdict.gate for verdict in report.failures} & _UNFIT:
        return report
    verdicts = prove(room, trial, log)
    tests = [verdict for verdict in verdicts if verdict.gate is Gate.EXECUTION]
    illegal = [verdict for verdict in verdicts if verdict.verdict == ILLEGAL]
    if illegal:
        report = settle(report, proven=False, evidence=illegal[0].evidence)
    elif tests and all(verdict.ok for verdict in verdicts):
        report = settle(report, proven=True, evidence=tests[0].evidence)
    return replace(report, verdicts=(*report.verdicts, *verdicts))


class _Proof:
    """The steps of one proof."""

    def __init__(self, room: CleanRoom, trial: Trial, archive: Archive, stage: Stage, folder: Path) -> None:
        self._room = room
        self._trial = trial
        self._archive = archive
        self._stage = stage
        self._folder = folder

    def verdicts(self, tag: str, python: str) -> Iterator[Verdict]:
        """Yield verdicts, up to the first failing step."""
        install = self._install("venv", python, (), Gate.IMPORT)
        yield install
        if not install.ok:
            return
        skip = self._trial.recipe.import_skip
        modules = [module for module in modules_of(self._archive, tag) if module not in skip]
        for number, cpu in enumerate(self._room.cpus):
            found = self._imports(modules, cpu)
            if not all(verdict.ok for verdict in found):
                yield from (_compared(verdict, self._room.cpus[:number]) for verdict in found)
                return
            yield from found
        if self._trial.recipe.test_command and not self._lacks_tests:
            yield from self._tests(python, modules)

    def _verdict(self, gate: Gate, *, ok: bool, evidence: str, hint: str = "", subject: str = "") -> Verdict:
        return Verdict(gate, ok, subject or self._trial.wheel.name, evidence, hint)

    def _install(self, venv: str, python: str, requirements: Sequence[str], gate: Gate) -> Verdict:
        trial = self._trial
        command = pip_command(trial.wheel.name, requirements, trial.index_url)
        ended = self._stage.install(venv, python, command)
        if ended.ok:
            staged = ", ".join(wheel.name for wheel in trial.beside)
            source = f"{trial.index_url} and what is staged ({staged})" if staged else trial.index_url
            evidence = f"pip installed {installed(ended.tail)} from {source} in {ended.seconds:.1f} s"
            return self._verdict(gate, ok=True, evidence=evidence)
        if ended.stop is not None:
            why = ended.why(self._room.limits(self._room.install_s))
            raise RoomError(f"{trial.wheel.name}: installing it: {why}", hint="see the log, and try again")
        refused = refusal(ended.tail, trial.index_url)
        if refused.room:
            raise RoomError(f"{trial.wheel.name}: {refused.evidence}", hint=refused.hint)
        failed = self._verdict(
            gate, ok=False, evidence=refused.evidence, hint=refused.hint, subject=refused.lacking
        )
        return replace(failed, verdict=NO_WHEEL) if refused.lacking else failed

    def _imports(self, modules: Sequence[str], cpu: str) -> list[Verdict]:
        """Import all in one process; after a crash, go on behind the module that crashed, in another one."""
        passed: list[str] = []
        failed: list[Verdict] = []
        ahead, seconds = list(modules), 0.0
        for _ in range(_CRASHES):
            if not ahead:
                break
            outcomes, ended = self._stage.imports(ahead, cpu)
            seconds += ended.seconds
            passed += [outcome.module for outcome in outcomes if outcome.error == ""]
            failed += [self._unimported(outcome, cpu) for outcome in outcomes if outcome.error]
            culprit = next((outcome.module for outcome in outcomes if outcome.error is None), "")
            if not culprit and ended.stop is None and ended.exit_code == any(o.error for o in outcomes):
                break
            failed.append(self._crashed(culprit, ended, cpu))
            ahead = ahead[ahead.index(culprit) + 1 :] if culprit else []
        if failed:
            return failed
        what = ", ".join(passed) or "nothing, for there is no module in it,"
        evidence = f"imported {what} under {cpu} in {seconds:.1f} s{self._no_tests()}"
        return [self._verdict(Gate.IMPORT, ok=True, evidence=evidence)]

    @property
    def _lacks_tests(self) -> bool:
        return bool(self._trial.recipe.test_sources) and self._trial.sdist is None

    def _no_tests(self) -> str:
        """Say why nothing but imports is tried, if so."""
        if not self._trial.recipe.test_command:
            return "; the recipe has no test_command"
        if not self._lacks_tests:
            return ""
        why = f" ({self._trial.no_sdist})" if self._trial.no_sdist else ""
        return f"; its tests are in the sdist, which is not here: not run{why}"

    def _unimported(self, outcome: Imported, cpu: str) -> Verdict:
        evidence = f"import {outcome.module} under {cpu}: {one_line(outcome.error or '')}"
        wanted = missing(self._archive, self._room.userland, self._folder / "venv")
        if not wanted or "cannot open shared object file" not in (outcome.error or ""):
            return self._verdict(Gate.IMPORT, ok=False, evidence=evidence, hint=_FIX_IMPORT)
        lacking = described(wanted, self._trial.packages)
        evidence += f"; a bare system lacks {lacking}"
        return self._verdict(Gate.IMPORT, ok=False, evidence=evidence, hint=install_hint(wanted))

    def _crashed(self, module: str, ended: Ended, cpu: str) -> Verdict:
        why = ended.why(self._stage.import_limits(1))
        what = f"import {module}" if module else "Python's start or end"
        if ended.died_of is SIGILL and module:
            return self._illegal(Gate.IMPORT, what, self._stage.import_fault(module, cpu), cpu)
        said = _last_words(ended.tail)
        return self._verdict(
            Gate.IMPORT, ok=False, evidence=f"{what} under {cpu}: {why}{said}", hint=_FIX_IMPORT
        )

    def _tests(self, python: str, modules: Sequence[str]) -> Iterator[Verdict]:
        """Run the recipe's tests; what only they need is in another environment than imports see."""
        recipe = self._trial.recipe
        if problem := self._bring_tests(modules):
            yield self._verdict(Gate.EXECUTION, ok=False, evidence=problem, hint=_FIX_SOURCES)
            return
        venv = "venv"
        if recipe.test_requires:
            venv = "tests"
            install = self._install(venv, python, recipe.test_requires, Gate.EXECUTION)
            if not install.ok:
                yield install
                return
        left_out = recipe.left_out(parse_name(self._trial.wheel.name).version)
        command = [*recipe.test_command, *(f"--deselect={test}" for test in left_out)]
        about = self._about_tests(left_out)
        tested: dict[str, Verdict] = {}
        for cpu in self._room.cpus:
            tested[cpu] = self._tested(venv, command, cpu)
            if not tested[self._room.cpus[0]].ok:
                break
        passed = [cpu for cpu, verdict in tested.items() if verdict.ok]
        for verdict in tested.values():
            compared = _compared(verdict, passed)
            yield replace(compared, evidence=compared.evidence + about)

    def _bring_tests(self, modules: Sequence[str]) -> str:
        """Copy the tests that are in the sdist only to the trial; returns why that can't be, if so."""
        trial = self._trial
        if not trial.recipe.test_sources or trial.sdist is None:
            return ""
        folder = self._stage.sources
        folder.mkdir()
        try:
            copy_sources(trial.sdist, trial.recipe.test_sources, folder)
        except WheelError as error:
            return error.message
        # A test of the sources says nothing of the wheel.
        module = shadowed(folder, modules)
        return f"test_sources has {module} itself, and the wheel's would not be tested" if module else ""

    def _about_tests(self, left_out: Mapping[str, str]) -> str:
        sources, sdist = self._trial.recipe.test_sources, self._trial.sdist
        brought = f"; {', '.join(sources)} from {sdist.name}" if sources and sdist else ""
        known = "; ".join(f"{test}: {reason}" for test, reason in left_out.items())
        return brought + (f"; left out: {known}" if known else "")

    def _tested(self, venv: str, command: Sequence[str], cpu: str) -> Verdict:
        seconds = float(self._trial.recipe.test_timeout_s)
        ended = self._stage.tests(venv, command, seconds, cpu)
        what = f"`{shlex.join(command)}`"
        if ended.ok:
            evidence = f"{what} passed under {cpu} in {ended.seconds:.1f} s{_last_words(ended.tail, 1)}"
            return self._verdict(Gate.EXECUTION, ok=True, evidence=evidence)
        # Tests start programs of their own, whose death is theirs to tell.
        if ended.died_of is SIGILL or (ended.stop is None and any(word in ended.tail for word in _ILLEGAL)):
            fault = self._stage.test_fault(venv, command, seconds, cpu)
            if fault is not None or ended.died_of is SIGILL:
                return self._illegal(Gate.EXECUTION, what, fault, cpu)
        why = ended.why(self._room.limits(seconds))
        if runs_pytest(command) and ended.exit_code == _NO_TESTS and ended.stop is None:
            why = "found no test"
        evidence = f"{what} under {cpu}: {why}{_last_words(ended.tail)}"
        return self._verdict(Gate.EXECUTION, ok=False, evidence=evidence, hint=_FIX_TESTS)

    def _illegal(self, gate: Gate, what: str, fault: Fault | None, cpu: str) -> Verdict:
        where = fault or "it could not be found again where; see the log"
        subject = fault.path.partition("/site-packages/")[2] if fault else ""
        evidence = f"{what} under {cpu}: SIGILL, illegal instruction: {where}"
        found = self._verdict(gate, ok=False, evidence=evidence, hint=_FIX_ISA, subject=subject)
        return replace(found, verdict=ILLEGAL)


def one_line(text: str) -> str:
    """Return text of a stranger as one line that can be printed."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:_LONGEST]


def _compared(verdict: Verdict, passed: Sequence[str]) -> Verdict:
    """Return a failing verdict with the cores on which the same passed: so a fault of vector code shows."""
    if verdict.ok or not passed:
        return verdict
    vectors = [cpu for cpu in passed if _VECTORS in cpu]
    if not vectors:
        return replace(verdict, evidence=f"{verdict.evidence}; under {', '.join(passed)} it passed")
    said = f"{verdict.evidence}; it depends on the vector length: under {', '.join(vectors)} it passed"
    return replace(verdict, evidence=said, hint=_FIX_LENGTH, verdict=verdict.verdict or VECTOR_LENGTH)


def _last_words(tail: str, lines: int = _SAID) -> str:
    said = [line for line in tail.splitlines() if line.strip()][-lines:]
    return f": {one_line(' / '.join(said))}" if said else ""
