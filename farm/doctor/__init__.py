"""What on this controller, the nodes and the index is not as it should be, and what to do about it."""

from farm.doctor.model import Check, Level, fail, ok, warn
from farm.doctor.rounds import examine

__all__ = ["Check", "Level", "examine", "fail", "ok", "warn"]
