"""A running build is widened: make and cargo as boards have them take what is put into their jobserver."""

from __future__ import annotations

import json

import pytest

from tests.boards.conftest import Site

pytestmark = pytest.mark.boards

# Six tasks that say when they begin and end, and end when they may.
SCRIPT = """
import json, os, pathlib, subprocess, sys, tempfile, time
sys.path.insert(0, str(pathlib.Path("/usr/local/lib/wheelfarm/farm-node").resolve().parents[2]))
from farm.node.tokens import Tokens

tool, begins = sys.argv[1], []
folder = pathlib.Path(tempfile.mkdtemp())
log, go = folder / "log", folder / "go"
tokens = Tokens(folder, 1)
if tool == "make":
    (folder / "Makefile").write_text(
        "all: 1 2 3 4 5 6\\n1 2 3 4 5 6:\\n"
        "\\t@echo +$@ >>log; while [ ! -e go ]; do sleep 0.1; done; echo -$@ >>log\\n"
    )
    command = ["make"]
else:
    script = '''use std::{fs::OpenOptions, io::Write, path::Path, thread::sleep, time::Duration};
    fn say(what: &str) { let mut log = OpenOptions::new().append(true).create(true).open("LOG").unwrap();
        log.write_all((what.to_string() + "\\\\n").as_bytes()).unwrap(); }
    fn main() { say("+"); while !Path::new("GO").exists() { sleep(Duration::from_millis(99)); } say("-"); }'''
    script = script.replace("LOG", str(log)).replace("GO", str(go))
    members = [f"part{number}" for number in range(6)]
    (folder / "Cargo.toml").write_text(f"[workspace]\\nresolver = '2'\\nmembers = {members}\\n")
    for member in members:
        (folder / member / "src").mkdir(parents=True)
        (folder / member / "src/lib.rs").touch()
        (folder / member / "build.rs").write_text(script)
        (folder / member / "Cargo.toml").write_text(
            f"[package]\\nname = '{member}'\\nversion = '0.1.0'\\nedition = '2021'\\n"
        )
    command = ["cargo", "build", "--offline", "--jobs", "1"]
variables = {"MAKEFLAGS": tokens.makeflags(8), "CARGO_MAKEFLAGS": tokens.makeflags(8)}
running = subprocess.Popen(
    command, cwd=folder, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
)

def begun(count):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = log.read_text().count("+") if log.exists() else 0
        if found >= count:
            return found
        time.sleep(0.1)
    return found

begins.append(begun(1))
tokens.widen(3)
begins.append(begun(3))
go.touch()
code = running.wait(120)
now = most = 0
for line in log.read_text().split():
    now += 1 if line[0] == "+" else -1
    most = max(most, now)
print(json.dumps({"begins": begins, "most": most, "all": begun(6), "code": code}))
"""


@pytest.mark.parametrize("tool", ["make", "cargo"])
def test_a_tool_takes_the_tasks_that_a_build_is_given_while_it_runs(site: Site, tool: str) -> None:
    said = site.on_board("vboard-f3", f"python3 - {tool} <<'END'\n{SCRIPT}\nEND\n")
    assert json.loads(said.strip().splitlines()[-1]) == {"begins": [1, 3], "most": 3, "all": 6, "code": 0}
