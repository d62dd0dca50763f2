from __future__ import annotations

import json
from pathlib import Path

from farm.executor import Build, Command, Launch, Limits
from farm.plan import JobSpec
from farm.recipe import DEFAULT

SPEC = JobSpec("demo", "1.0", "cp313", "demo-1.0.tar.gz", "https://x/demo", "0" * 64, DEFAULT)


def test_what_a_node_is_told_of_a_build() -> None:
    limits = Limits(time_s=60, memory_bytes=1 << 30, disk_bytes=1 << 20)
    content = json.loads(json.dumps(Launch("demo.1", Build(SPEC, 1, Path("sdist"), 4), limits).to_json()))
    assert content["limits"] == {
        "time_s": 60,
        "memory_bytes": 1 << 30,
        "processes": None,
        "disk_bytes": 1 << 20,
    }
    assert content["task"]["task"] == "build"
    assert content["task"]["width"] == 4
    assert content["task"]["sdist_sha256"] == "0" * 64
    assert "sdist_url" not in content["task"]


def test_what_a_node_is_told_of_a_command() -> None:
    content = json.loads(json.dumps(Launch("a.1", Command(("true", "x")), Limits(time_s=1)).to_json()))
    assert content["task"] == {"task": "command", "argv": ["true", "x"]}
