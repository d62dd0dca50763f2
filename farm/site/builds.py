"""The page of one attempt: times, steps, board, how it ended, and its log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from farm.site.farm_model import BuildPage, Phase
from farm.site.history import attempt_id, build_path, build_row, final_failure, message_of, moment
from farm.site.logs import LOG, PROOF, AttemptLogs
from farm.site.model import Source
from farm.site.text import clean, path_of, web_url
from farm.store import Attempt, Job

LONGEST_S: Final = 1e9
SHOWN_LINES: Final = 200
SHOWN_CHARACTERS: Final = 400
# What is asked of a result's toolchain, in this order; the rest is in the provenance.
_TOOLS: Final = (
    ("os", "system"),
    ("kernel", "kernel"),
    ("isa", "ISA"),
    ("gcc", "GCC"),
    ("gcc_march", "-march"),
    ("rustc", "Rust"),
    ("sandbox", "sandbox"),
    ("network", "network"),
)


def build_page(
    attempt: Attempt, job: Job, others: Sequence[Attempt], logs: AttemptLogs, *, published: bool
) -> BuildPage:
    """Return an attempt's page.

    Args:
        attempt: it.
        job: its job.
        others: the job's other attempts.
        logs: as they are published.
        published: whether the job's wheel is in the tree.
    """
    name, spec = attempt_id(attempt), job.spec
    log, proof = logs.text(LOG), logs.text(PROOF)
    is_last = attempt.attempt == job.attempt
    wheel = job.wheel or ""
    seconds = round(attempt.ended_at - attempt.leased_at, 1) if attempt.ended_at else None
    return BuildPage(
        path=build_path(name),
        attempt=name,
        number=attempt.attempt,
        project=spec.project,
        version=spec.version,
        python=attempt.python,
        node=attempt.node,
        width=attempt.widths.first,
        widest=attempt.widths.now,
        outcome=final_failure(attempt, job),
        message=message_of(attempt, job),
        state=str(job.state) if is_last else "",
        began=moment(attempt.leased_at),
        ended=moment(attempt.ended_at),
        seconds=seconds,
        phases=_phases(attempt.result),
        peak_memory_bytes=_whole(attempt.result.get("peak_memory_bytes")),
        toolchain=_toolchain(attempt.result),
        source=Source(clean(spec.sdist_filename), web_url(spec.sdist_url), spec.sdist_sha256),
        wheel=wheel if is_last else "",
        wheel_path=path_of("packages", spec.project, wheel) if is_last and wheel and published else "",
        wheel_sha256=(job.wheel_sha256 or "") if is_last else "",
        log=_shown(log),
        log_bytes=len(log),
        log_path=f"{build_path(name)}{LOG}" if log else "",
        proof_bytes=len(proof),
        proof_path=f"{build_path(name)}{PROOF}" if proof else "",
        logs_withheld=logs.withheld,
        others=tuple(build_row(other, job) for other in others),
    )


def _shown(log: bytes) -> tuple[str, ...]:
    lines = log.decode("utf-8", "replace").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    return tuple(
        line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 1]}…"
        for line in lines[-SHOWN_LINES:]
    )


def _phases(result: Mapping[str, object]) -> tuple[Phase, ...]:
    """Return the steps as the board timed them; a board's words, so nothing is taken for granted."""
    said, used = result.get("phases_s"), result.get("processor_s")
    if not isinstance(said, dict):
        return ()
    times = {clean(str(name)): _seconds(value) for name, value in said.items()}
    whole = sum(times.values()) or 1.0
    busy = used if isinstance(used, dict) else {}
    return tuple(
        Phase(name, seconds, _seconds(busy[name]) if name in busy else None, round(seconds / whole, 4))
        for name, seconds in times.items()
    )


def _seconds(value: object) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LONGEST_S
    return round(float(value), 1) if known else 0.0  # type: ignore[arg-type]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _toolchain(result: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    said = result.get("toolchain")
    if not isinstance(said, dict):
        return ()
    return tuple((label, clean(str(said[key]), 300)) for key, label in _TOOLS if said.get(key))
