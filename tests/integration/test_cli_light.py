"""What a command brings along: `farm dispatch` stays for days, and may hold hundreds of nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from farm.cli import ALLOCATOR

HEAVY = ("bs4", "elftools", "jinja2", "pydantic", "pypi_simple", "requests", "auditwheel", "capstone")
DISPATCH = """
import sys
from farm.cli import app_for
app_for("dispatch")
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def test_a_dispatch_does_not_import_what_others_need() -> None:
    command = [sys.executable, "-c", DISPATCH, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


FARM = """
import os, sys
from farm.cli import main
print("began with", os.environ.get("GLIBC_TUNABLES"), flush=True)
try:
    main()
finally:
    print("goes on with", os.environ.get("GLIBC_TUNABLES"))
"""


def test_a_dispatch_runs_with_its_allocator_and_what_it_starts_does_not(tmp_path: Path) -> None:
    script = tmp_path / "farm"
    script.write_text(FARM)
    outside = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}

    def said(command: str, **environment: str) -> list[str]:
        argv = [sys.executable, str(script), command, "--help"]
        env = {**outside, **environment, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if line.startswith(("began with", "goes on with"))]

    ours = ALLOCATOR["GLIBC_TUNABLES"]
    assert said("dispatch") == ["began with None", f"began with {ours}", "goes on with None"]
    assert said("status") == ["began with None", "goes on with None"]
    own = "glibc.malloc.tcache_count=1"
    assert said("dispatch", GLIBC_TUNABLES=own) == [f"began with {own}", f"goes on with {own}"]
