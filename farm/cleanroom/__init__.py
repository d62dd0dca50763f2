"""The clean room: a wheel is installed, imported and tested as on a user's bare system, under emulated cores.

What is proved is that the exercised paths run on plain rv64gc, and with two vector lengths; and that a user's
pip finds all that the wheel needs without a compiler. Wheels are strangers' code: they run inside walls (see
sandbox). :mod:`farm.cleanroom.trial` does it.
"""

from farm.cleanroom.room import (
    CPUS,
    FOLDER,
    ILLEGAL,
    NO_WHEEL,
    VECTOR_LENGTH,
    CleanRoom,
    NoPythonError,
    RoomError,
)

__all__ = [
    "CPUS",
    "FOLDER",
    "ILLEGAL",
    "NO_WHEEL",
    "VECTOR_LENGTH",
    "CleanRoom",
    "NoPythonError",
    "RoomError",
]
