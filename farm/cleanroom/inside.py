"""What runs inside the clean room: imports modules, one after the other, and tells what became of each.

Called as ``python inside.py DESCRIPTOR MODULE...``; for each module one line of JSON before it is imported
and one after, so that who reads them knows which one a crash belongs to. Standard library only, for any
Python from 3.8.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback


def main(descriptor: int, modules: list[str]) -> int:
    """Import modules; returns how many could not be."""
    os.set_inheritable(descriptor, False)
    failed = 0
    # Modules are found as a user's program finds them: not beside this file.
    sys.path[0] = ""
    for module in modules:
        _tell(descriptor, {"module": module})
        began = time.perf_counter()
        error = ""
        try:
            importlib.import_module(module)
        # A module may end the interpreter on import: that, too, is its own failure.
        except BaseException as caught:  # noqa: BLE001
            error = f"{type(caught).__name__}: {caught}"
            failed += 1
            traceback.print_exc()
        _tell(descriptor, {"module": module, "error": error, "seconds": time.perf_counter() - began})
    return min(failed, 1)


def _tell(descriptor: int, what: dict[str, object]) -> None:
    os.write(descriptor, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
