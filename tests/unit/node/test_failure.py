from __future__ import annotations

import pytest

from farm.node.failure import classify


@pytest.mark.parametrize(
    "tail",
    [
        "g++: fatal error: Killed signal terminated program cc1plus",
        "collect2: fatal error: ld terminated with signal 9 [Killed]",
        "gcc: internal compiler error: Killed (program cc1)",
        "Out of memory: Killed process 4242 (cc1plus) total-vm:2097152kB",
        "memory: oom-kill:constraint=CONSTRAINT_MEMCG",
        "  process didn't exit successfully: `rustc` (signal: 9, SIGKILL: kill)",
        "make[2]: *** [Makefile:12: x.o] Killed",
        "cc1plus: out of memory allocating 65536 bytes after a total of 1 bytes",
        "virtual memory exhausted: Cannot allocate memory",
        "LLVM ERROR: out of memory",
    ],
)
def test_f25_what_the_kernel_killed_wants_more_memory(tail: str) -> None:
    assert classify("build", 1, f"compiling\n{tail}\nninja: build stopped\n".encode()) == "memory"


@pytest.mark.parametrize("code", [-9, 137])
def test_f25_a_killed_command_wants_more_memory(code: int) -> None:
    assert classify("build", code, b"") == "memory"


@pytest.mark.parametrize("text", ["No space left on device", "Disk quota exceeded"])
def test_f21_a_full_disk_is_the_nodes_failure(text: str) -> None:
    assert classify("build", 1, f"x.o: {text}\n".encode()) == "node"
    assert classify("source", 2, f"tar: {text}\n".encode()) == "node"


@pytest.mark.parametrize("code", [1, 2, -15, -11, -6, 143])
def test_all_else_stays_what_it_is(code: int) -> None:
    assert classify("build", code, b"error: 'Killed' was not declared\nspace left\n") == "build"
    assert classify("policy", code, b"") == "policy"


def test_a_sandbox_that_can_not_be_made_is_the_nodes_failure() -> None:
    said = b"bwrap: Creating new namespace failed: No space left on device\n"
    assert classify("build", 1, said) == "node"
    assert classify("build", 1, b"bwrap: setting up uid map: Permission denied\n") == "node"
    assert classify("build", 1, b"warning: no bwrap: there is none\n") == "build"
