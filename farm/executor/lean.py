"""paramiko without invoke, which it would import to find out whether it is there.

It needs it for ``Match exec`` in a ~/.ssh/config, which is never read here, and does without where it is not
installed. With it come asyncio, unittest and a YAML library: 5 MiB.
"""

import sys

_unknown = "invoke" not in sys.modules
if _unknown:
    sys.modules["invoke"] = None  # type: ignore[assignment]  # what Python calls a module that can't be had
try:
    import paramiko
    from paramiko.packet import Packetizer
finally:
    if _unknown:
        del sys.modules["invoke"]

__all__ = ["Packetizer", "paramiko"]
