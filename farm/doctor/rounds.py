"""All checks, one after the other; a part that can't be looked at hides none of the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import requests

from farm.cleanroom import CleanRoom
from farm.controller import open_store
from farm.doctor import controller, machines, served
from farm.doctor.model import Check, guarded
from farm.doctor.timers import last_try, timers
from farm.doctor.tokens import tokens
from farm.errors import FarmError
from farm.index.tree import IndexTree
from farm.nodes import Fleet, IndexHost, fleet_of, index_variables, read_inventory
from farm.paths import Paths
from farm.registry import registries_of
from farm.service import probe_all


def examine(source: Path, paths: Paths) -> Iterator[Check]:
    """Yield what there is to say of the farm of an inventory, as it is found out."""
    yield from _controller(paths)
    found: list[Fleet] = []
    try:
        content = read_inventory(source)
        found.append(fleet_of(content, str(source)))
        yield from guarded("registries", lambda: _tokens(content, source, paths))
    except FarmError as error:
        yield from guarded("inventory", partial(_again, error))
    for fleet in found:
        yield from _fleet(fleet, source, paths)
        if fleet.index is not None:
            yield from _index(fleet.index, source, paths)
    yield from guarded("index: last try", partial(last_try, paths.tried, time.time()))
    yield from guarded("timers", timers)


def _again(error: FarmError) -> Iterator[Check]:
    raise error


def _controller(paths: Paths) -> Iterator[Check]:
    yield from guarded("controller: programs", controller.programs)
    yield from guarded("controller: packages", controller.packages)
    yield from guarded("controller: disk", partial(controller.disk, paths.state))
    yield from guarded("controller: clock", controller.clock)
    yield from guarded("controller: state", partial(controller.state, paths))
    yield from guarded("controller: signing key", partial(controller.signing, paths))
    database = list(guarded("controller: database", partial(controller.database, paths)))
    yield from database
    if all(check.level == "ok" for check in database):
        yield from guarded("controller: dispatch", partial(_queue, paths))


def _queue(paths: Paths) -> Iterator[Check]:
    with open_store(paths, looking=True) as store:
        jobs = store.jobs()
    yield from controller.queue(paths, jobs)


def _tokens(content: object, source: Path, paths: Paths) -> Iterator[Check]:
    variables = index_variables(content) if isinstance(content, dict) else {}
    yield from tokens(registries_of(variables, str(source)).values(), paths.state, time.time())


def _fleet(fleet: Fleet, source: Path, paths: Paths) -> Iterator[Check]:
    addresses = [node.address for node in fleet.builders]
    addresses += [fleet.index.address] if fleet.index else []
    yield from guarded("inventory: index", partial(machines.inventory, fleet, str(source)))
    yield from guarded("inventory: host keys", partial(machines.keys, addresses))
    yield from guarded("nodes", partial(_nodes, fleet, paths))
    room, wanted = CleanRoom.at(), fleet.index is None or fleet.index.clean_room
    yield from guarded("clean room", partial(machines.clean_room, room, wanted=wanted))


def _nodes(fleet: Fleet, paths: Paths) -> Iterator[Check]:
    probes = probe_all(fleet.builders)
    with open_store(paths, looking=True) as store:
        marks = store.marks()
    yield from machines.nodes(fleet.builders, probes, marks, time.time())


def _index(host: IndexHost, source: Path, paths: Paths) -> Iterator[Check]:
    tree = IndexTree(paths.tree, base_url=host.url)
    with requests.Session() as http:
        answered = list(guarded("index: answers", partial(served.answers, host, http)))
        yield from answered
        yield from guarded("index: certificate", partial(served.certificate, host, time.time()))
        if answered[0].level == "ok":
            yield from guarded("index: newest", partial(served.newest, tree, host, http))
            yield from guarded("index: pages", partial(served.pages, tree, host, http))
    there = partial(served.free_there, source, host)
    yield from guarded("index: space", partial(served.space, host, there))
