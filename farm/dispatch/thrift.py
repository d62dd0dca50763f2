"""Hundreds of threads in little memory: a setting of glibc, which it reads once, when a program starts."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "GLIBC_TUNABLES"
# glibc keeps up to seven freed pieces of each of 64 sizes for the thread that freed them. Each link has a
# thread of paramiko's through which answers of all sizes go: 44 KiB a link that nobody else can use.
NO_CACHES: Final = "glibc.malloc.tcache_count=0"
# With fewer nodes it is not worth a start.
MANY_NODES: Final = 64


def restarted_environment(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return with what to start anew, or None if that was done or somebody chose otherwise (pure)."""
    chosen = environment.get(VARIABLE, "")
    if "glibc.malloc.tcache_count" in chosen:
        return None
    return {**environment, VARIABLE: ":".join(filter(None, (chosen, NO_CACHES)))}


def be_thrifty(nodes: int) -> None:
    """Start this program anew, as it was called, if it is to hold many nodes and its heap is not set so.

    To be called before anything was done or read from standard input.
    """
    environment = restarted_environment(os.environ)
    if nodes < MANY_NODES or environment is None or platform.libc_ver()[0] != "glibc":
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606  # itself
