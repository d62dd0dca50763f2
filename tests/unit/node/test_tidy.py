from __future__ import annotations

import fcntl
import os
from pathlib import Path

from farm.node.tidy import DAY_S, forget_leftovers


def aged(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    moment = path.stat().st_mtime - days * DAY_S
    os.utime(path, (moment, moment))
    return path


def test_f28_what_nobody_needs_is_removed_and_nothing_else(tmp_path: Path) -> None:
    gone = [
        aged(tmp_path / "jobs/.demo.1.77/log", 0),
        aged(tmp_path / "incoming/aa/old.tar.gz", 31),
        aged(tmp_path / "incoming/bb/new.tar.gz.1f.partial", 2),
        aged(tmp_path / "work/killed-cp313/source/x", 0),
    ]
    kept = [
        aged(tmp_path / "jobs/demo.2/log", 100),
        aged(tmp_path / "incoming/bb/new.tar.gz", 29),
        aged(tmp_path / "incoming/cc/now.tar.gz.2e.partial", 0.5),
        aged(tmp_path / "work/running-cp313/source/x", 100),
        aged(tmp_path / "cache/demo/.lock", 100),
    ]
    with (tmp_path / "work/.running-cp313.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        forget_leftovers(tmp_path)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    assert not (tmp_path / "incoming/aa").exists()


def test_nothing_there_is_no_error(tmp_path: Path) -> None:
    forget_leftovers(tmp_path)
