"""Durable state of the farm (SQLite in WAL mode)."""

from farm.store.lock import controller_lock, lock_holder
from farm.store.model import Attempt, Failure, Job, Mark, NodeMark, Run, State
from farm.store.store import Store

__all__ = [
    "Attempt",
    "Failure",
    "Job",
    "Mark",
    "NodeMark",
    "Run",
    "State",
    "Store",
    "controller_lock",
    "lock_holder",
]
