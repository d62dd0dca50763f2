"""What does a job cost that does nothing? Its whole life against one command over OpenSSH's ControlMaster.

    python -m bench.trivial [-n COUNT]

A life is: brought to the node and claimed there, run, its end seen, its result and log collected, forgotten.
All over one sshd on the loopback address, in turns, so that each meets the same load. Needs root, because the
sshd is one of the tests. Prints one JSON object on stdout: medians in milliseconds, and ratios of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import farm.node
from farm.executor import Command, Launch, Limits
from farm.executor.ssh import SshExecutor
from tests.integration.sshkit import USER, Sshd, free_port, keygen

COUNT: Final = 200
PARALLEL_COUNT: Final = 10
WAIT_S: Final = 30.0


def life(executor: SshExecutor, attempt_id: str) -> None:
    """Run one command that does nothing, from its start until it is forgotten.

    Raises:
        RuntimeError: it did not succeed; a ratio with it would mean nothing.
    """
    executor.start(Launch(attempt_id, Command(("true",)), Limits(time_s=60)))
    offset, result = 0, None
    while result is None:
        for progress in executor.poll({attempt_id: offset}, WAIT_S).progress:
            offset, result = progress.offset, progress.result
    if result.failure is not None:
        raise RuntimeError(result.message)
    executor.forget(attempt_id)


def measure(count: int = COUNT) -> dict[str, object]:
    """Measure all ways in turns; returns medians in milliseconds and the ratios."""
    with tempfile.TemporaryDirectory(prefix="wheelfarm-bench-") as folder, _sshd(Path(folder)) as sshd:
        executor = SshExecutor(sshd.node, farm_node=_farm_node(Path(folder)))
        executor.prepare()
        with _control_master(sshd) as ssh:
            lives, commands = _in_turns(
                count,
                lambda number: life(executor, f"bench.{number}"),
                lambda _: _run([*ssh, "true"]),
            )
        executor.close()
        parallel = _parallel(sshd)
    figures: dict[str, object] = {
        "jobs": count,
        "life_ms": round(lives, 2),
        "control_master_ms": round(commands, 2),
        "life_to_control_master": round(lives / commands, 2),
    }
    if parallel is None:
        return figures | {"parallel": "GNU parallel is not installed: apt-get install parallel"}
    return figures | {"parallel_ms": round(parallel, 2), "life_to_parallel": round(lives / parallel, 3)}


def _in_turns(count: int, *ways: Callable[[int], object]) -> list[float]:
    taken: list[list[float]] = [[] for _ in ways]
    for number in range(-count // 20, count):  # the first ones warm up
        for way, times in zip(ways, taken, strict=True):
            began = time.perf_counter()
            way(number + count)
            if number >= 0:
                times.append(1000 * (time.perf_counter() - began))
    return [statistics.median(times) for times in taken]


@contextmanager
def _sshd(folder: Path) -> Iterator[Sshd]:
    keygen(folder / "key")
    (folder / "bench").mkdir()
    keygen(folder / "bench" / "host")
    sshd = Sshd(folder / "bench", free_port(), folder / "key")
    sshd.start()
    try:
        yield sshd
    finally:
        sshd.stop()


def _farm_node(folder: Path) -> str:
    script = folder / "farm-node"
    main = Path(farm.node.__file__).with_name("__main__.py")
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -P {main} --environments {folder} "$@"\n')
    script.chmod(0o755)
    return str(script)


def _ssh(sshd: Sshd) -> list[str]:
    address = sshd.address
    options = [f"UserKnownHostsFile={address.known_hosts}", "BatchMode=yes", "IdentitiesOnly=yes"]
    command = ["ssh", "-F", "none", "-i", str(address.key_file), "-p", str(address.port)]
    return [*command, *(part for option in options for part in ("-o", option))]


@contextmanager
def _control_master(sshd: Sshd) -> Iterator[list[str]]:
    ssh = [*_ssh(sshd), "-o", f"ControlPath={sshd.directory}/master"]
    host = f"{USER}@{sshd.address.host}"
    _run([*ssh, "-o", "ControlMaster=yes", "-o", "ControlPersist=yes", "-f", "-N", host])
    try:
        yield [*ssh, host]
    finally:
        _run([*ssh, "-O", "exit", host])


def _parallel(sshd: Sshd) -> float | None:
    """Return what one job costs under GNU parallel, one after the other, or None where it is missing."""
    if shutil.which("parallel") is None:
        return None
    login = f"{' '.join(_ssh(sshd))} {USER}@{sshd.address.host}"
    # As its users start it on a farm: one run, a list of jobs, one at a time on the host.
    command = ["parallel", "--will-cite", "--jobs", "1", "--sshlogin", f"1/{login}", "true", "{}", ":::"]
    began = time.perf_counter()
    _run([*command, *map(str, range(PARALLEL_COUNT))])
    return 1000 * (time.perf_counter() - began) / PARALLEL_COUNT


def _run(command: Sequence[str]) -> None:
    # No pipes: a master in the background would hold them open.
    subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-n", "--count", type=int, default=COUNT)
    print(json.dumps(measure(parser.parse_args().count)))


if __name__ == "__main__":
    main()
