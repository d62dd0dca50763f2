from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from farm.node.files import RESERVE_BYTES, Durable, read_json, write_json


def test_there_is_no_result_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    durable = Durable(path)
    assert not path.exists()
    (partial,) = tmp_path.iterdir()
    assert partial.stat().st_size == RESERVE_BYTES, "room for it is reserved"
    durable.write({"message": "é" * 10})
    assert read_json(path) == {"message": "é" * 10}
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_may_be_longer_than_what_was_reserved(tmp_path: Path) -> None:
    durable = Durable(tmp_path / "result.json")
    durable.write({"message": "x" * 3 * RESERVE_BYTES})
    assert len(json.loads((tmp_path / "result.json").read_bytes())["message"]) == 3 * RESERVE_BYTES


def test_f21_a_full_disk_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Durable(tmp_path / "result.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 100, b"[]", b"\xff"])
def test_a_file_that_a_power_cut_tore_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "torn").write_bytes(content)
    assert read_json(tmp_path / "torn") == {}
    assert read_json(tmp_path / "absent") == {}


def test_written_is_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "spec.json", {"a": 1})
    assert read_json(tmp_path / "spec.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"]
