"""How much memory a build took, all its processes together.

The kernel's own peak of a cgroup (memory.peak) counts files that it keeps in memory because there is room: a
build that reads and writes much always comes up to its limit, and would be given more each time. So what
can't be dropped is looked at every second. What rose and fell in between is not seen, unless one process
had it.
"""

from __future__ import annotations

import threading
import time

from farm.node import unit

EVERY_S = 1.0


class Peak:
    """Looks at the memory of this process's cgroup; begin it with signals blocked: it is not to get any."""

    def __init__(self) -> None:
        self.bytes = 0

    def begin(self) -> None:
        """Look from now on, as long as this process lives."""
        threading.Thread(target=self._run, daemon=True).start()

    def look(self) -> None:
        """Look once."""
        self.bytes = max(self.bytes, unit.held_bytes())

    def _run(self) -> None:
        while True:
            self.look()
            time.sleep(EVERY_S)
