from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import LyingNodeError, NodeError
from farm.executor import AttemptState, NodeFile
from farm.executor.answers import checked, facts, progress, result, states, vitals
from tests.unit.test_nodes import FACTS

VITALS: dict[str, object] = {
    "clock": 1,
    "load": 0.5,
    "disk_free_bytes": 3,
    "memory_available_bytes": 4,
    "machine_id": "m",
    "boot_id": "b",
    "toolchain": "t",
}
WHEEL: dict[str, object] = {
    "filename": "a-1.0-1-cp313-cp313-linux_riscv64.whl",
    "size": 7,
    "sha256": "a" * 64,
}
RESULT: dict[str, object] = {
    "task": "build",
    "failure": None,
    "message": "",
    "wheels": [WHEEL],
    "started": 5.0,
    "duration_s": 2,
    "phases_s": {"build": 1.5},
    "processor_s": {"build": 3},
    "toolchain": {"gcc": "14"},
    "peak_memory_bytes": 1000,
}
PROGRESS: dict[str, object] = {
    "attempt": "a.1",
    "state": "finished",
    "log": base64.b64encode(b"abc").decode(),
    "offset": 13,
    "more": False,
    "result": RESULT,
}
FACTS_ANSWER = {
    **asdict(FACTS),
    "apt_packages": sorted(FACTS.apt_packages),
    "pythons": ["cp313"],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_a_good_answer_is_read() -> None:
    item = progress(PROGRESS, {"a.1": 10}, frozenset({"a.1"}))
    assert (item.state, item.log, item.offset, item.more) == (AttemptState.FINISHED, b"abc", 13, False)
    assert item.result is not None
    assert item.result.wheels == (NodeFile(str(WHEEL["filename"]), 7, "a" * 64),)
    assert (item.result.failure, item.result.duration_s, item.result.peak_memory_bytes) == (None, 2.0, 1000)
    assert vitals({"vitals": VITALS}).memory_available_bytes == 4
    assert facts({"facts": FACTS_ANSWER}) == FACTS
    assert states({"attempts": {"a.1": "lost"}}) == {"a.1": AttemptState.LOST}


def test_only_a_command_may_succeed_without_a_file() -> None:
    empty = {**RESULT, "wheels": []}
    assert result({**empty, "task": "command"}, built=False).wheels == ()
    for content, built in ((empty, False), ({**empty, "task": "command"}, True)):
        with pytest.raises(ValueError, match="left no wheel"):
            result(content, built=built)
    assert result({**empty, "failure": "memory"}, built=True).failure == "memory"


def test_what_is_wrong_is_the_nodes_fault() -> None:
    with pytest.raises(LyingNodeError, match="f3: its facts makes no sense: KeyError"):
        checked("f3", "facts", lambda: facts({"facts": {}}))
    assert issubclass(LyingNodeError, NodeError)


def test_nothing_a_node_says_reaches_a_terminal_as_it_is() -> None:
    assert result({**RESULT, "message": "a\x1b[31m\nb"}, built=True).message == "a [31m b"
    with pytest.raises(LyingNodeError) as caught:
        checked("f3", "result", lambda: result({**RESULT, "failure": "x\x1b" * 10_000}, built=True))
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()
    for number in ("nan", "inf"):
        with pytest.raises(ValueError, match="no number"):
            result({**RESULT, "duration_s": float(number)}, built=True)


def changed(content: Mapping[str, object], path: list[str], value: object) -> Mapping[str, object]:
    """Return a copy with another value at a path."""
    key, *rest = path
    inner = content[key]
    return {**content, key: changed(inner, rest, value) if rest and isinstance(inner, dict) else value}


@given(path=st.sampled_from([[key] for key in PROGRESS] + [["result", key] for key in RESULT]), value=JSON)
def test_any_other_value_is_read_or_told_apart(path: list[str], value: object) -> None:
    with suppress(LyingNodeError):
        checked("f3", "answer", lambda: progress(changed(PROGRESS, path, value), {"a.1": 10}, frozenset()))


@given(key=st.sampled_from(sorted(FACTS_ANSWER)), value=JSON)
def test_any_other_fact_is_read_or_told_apart(key: str, value: object) -> None:
    try:
        read = checked("f3", "facts", lambda: facts({"facts": {**FACTS_ANSWER, key: value}}))
    except LyingNodeError:
        return
    assert isinstance(getattr(read, key), type(getattr(FACTS, key)) | float | int | None)


@given(key=st.sampled_from(sorted(VITALS)), value=JSON)
def test_any_other_vital_is_read_or_told_apart(key: str, value: object) -> None:
    with suppress(LyingNodeError):
        checked("f3", "vitals", lambda: vitals({"vitals": {**VITALS, key: value}}))


@pytest.mark.parametrize(
    "name", ["../a.whl", "/a.whl", "a/b.whl", ".a.whl", "", ".", "..", "a b.whl", "a\n.whl", "-rf", "ä.whl"]
)
def test_a_file_name_is_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="no plain file name"):
        result({**RESULT, "wheels": [{**WHEEL, "filename": name}]}, built=True)
