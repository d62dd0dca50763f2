"""The event loop: placing, leases, collection, retries, quarantine, publication; resumes what was cut off."""

from farm.dispatch.dispatcher import DEFAULT_POLICY, Dispatcher, Reporter
from farm.dispatch.tempo import Tempo

__all__ = ["DEFAULT_POLICY", "Dispatcher", "Reporter", "Tempo"]
