"""What all tests stand on."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let Ctrl-C end what tests start, even where the run was begun in the background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
