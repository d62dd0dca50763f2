"""What a command brings along: `farm dispatch` stays for days, and may hold hundreds of nodes."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("asyncio", "bs4", "elftools", "jinja2", "pydantic", "pypi_simple", "requests", "unittest", "yaml")
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


def test_paramiko_without_invoke_leaves_invoke_to_others() -> None:
    script = "import farm.executor.link, sys; assert 'invoke' not in sys.modules; import invoke"
    subprocess.run([sys.executable, "-c", script], check=True)
