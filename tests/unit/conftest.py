"""A unit test opens no socket and starts no process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import settings
from pytest_socket import disable_socket, enable_socket

# The same examples in each run, and no deadline: a busy machine must not make a test fail.
settings.register_profile("farm", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("farm")


def _refuse(_self: object, *arguments: object, **_options: object) -> None:
    pytest.fail(f"a unit test started a process: {arguments[:1]}")


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(subprocess.Popen, "__init__", _refuse)
    disable_socket()
    yield
    enable_socket()
