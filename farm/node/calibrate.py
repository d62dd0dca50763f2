"""How fast a board compiles, measured once for each toolchain.

One C file, the same on every board, is compiled by the board's own gcc: nothing else says as well how long
builds will take, and it is mostly integer work and memory, as builds are. The best of three runs counts, as
only disturbances differ between them. Cores at once get in each other's way (memory, caches), which the
parallel efficiency says. The speed is a ratio to a reference that is a convention: 1.0 is what one
core of a SpacemiT K1 (BananaPi F3) is taken to be, a ninth of a current x86 core; only ratios between boards
mean anything.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from farm.node import sandbox, unit
from farm.node.facts import output
from farm.node.files import Json, read_json

# What the file takes on the reference core, in seconds.
REFERENCE_S = 6.0
RUNS = 3
# A board that is this slow is measured once: it is known then, and provisioning is not to take minutes.
ENOUGH_S = 12.0
LIMIT_S = 300
FUNCTIONS = 40
RESULT = Path("/etc/wheelfarm/calibration.json")
Compile = Callable[[int], float]


def source(functions: int = FUNCTIONS) -> str:
    """Return the C file: loops, branches, tables and calls, different in each function, without headers."""
    parts = ["typedef unsigned int u32;\nstatic u32 table[64];\n"]
    for number in range(functions):
        step, shift, mask = number % 13 + 3, number % 7 + 1, number % 31 + 32
        call = f"f{number - 1}(data, length - 1)" if number else "1"
        parts.append(
            f"__attribute__((noinline)) u32 f{number}(u32 *data, int length) {{\n"
            f"  u32 a = {number * 2654435761 % 2**32}u, b = length, c = table[{number % 64}];\n"
            f"  for (int i = 0; i < length; i += {step}) {{\n"
            f"    a = (a << {shift} | a >> {32 - shift}) ^ data[i & {mask}];\n"
            f"    switch (a % {step + 2}) {{\n"
            + "".join(f"    case {case}: b += a * {case + number + 1}u; break;\n" for case in range(step))
            + f"    default: c ^= b + data[b & {mask}]; }}\n"
            f"    for (int k = 0; k < 8; k++) table[(a + k) & 63] += c * k ^ data[(b + k) & {mask}];\n"
            "  }\n"
            f"  return length > {number % 5} ? a + b * c + {call} : c;\n}}\n"
        )
    return "".join(parts)


def calibrate(result: Path = RESULT) -> Json:
    """Measure this board, or return what is known if it was measured with this toolchain.

    Raises:
        SystemExit: there is no compiler, or it fails.
    """
    cores, toolchain = len(os.sched_getaffinity(0)), fingerprint()
    known = read_json(result)
    if known.get("toolchain") == toolchain and known.get("cores") == cores:
        return {**known, "measured": False}
    with tempfile.TemporaryDirectory(prefix="farm-calibrate-") as folder:
        path = Path(folder, "unit.c")
        path.write_text(source(), encoding="ascii")
        single_s, together_s = measure(lambda copies: compiled_s(path, copies), cores)
    return {
        **rating(single_s, together_s, cores),
        "toolchain": toolchain,
        "measured_at": _now(),
        "measured": True,
    }


def health(root: Path, result: Path = RESULT) -> Json:
    """Return what builds will miss on this board: limits, a sandbox, and what time limits are scaled by."""
    why_not = unit.why_not() if unit.SYSTEMD.is_dir() else ""
    return {
        "units": why_not,
        "sandbox": sandbox.why_not(root) or sandbox.NAME,
        "calibrated": "speed" in read_json(result),
    }


def measure(compile_copies: Compile, cores: int) -> tuple[float, float]:
    """Return the best time of one compiler alone, and of one on each core at once."""
    single_s = compile_copies(1)
    for _ in range(RUNS - 1):
        if single_s < ENOUGH_S:
            single_s = min(single_s, compile_copies(1))
    return single_s, compile_copies(cores) if cores > 1 else single_s


def rating(single_s: float, together_s: float, cores: int) -> Json:
    """Return what was measured as ratios: to the reference, and of all cores to as many times one."""
    return {
        "speed": round(REFERENCE_S / single_s, 3),
        "cores": cores,
        # Above 1 is noise: cores can't help each other.
        "parallel_efficiency": round(min(1.0, single_s / together_s), 3),
        "single_s": round(single_s, 3),
    }


def fingerprint() -> str:
    """Return which compiler is measured: its version, its target, and the file (emulated or native, say)."""
    program = output("gcc", "-print-prog-name=cc1").strip()
    size = Path(program).stat().st_size if program and Path(program).exists() else 0
    version = output("gcc", "--version").partition("\n")[0].strip()
    return f"{version}; {output('gcc', '-dumpmachine').strip()}; cc1 {size} bytes; work {FUNCTIONS}"


def compiled_s(path: Path, copies: int, compiler: Sequence[str] = ("gcc", "-O2")) -> float:
    """Return the processor time that each of so many compilers at once takes for the file, in seconds.

    Not the time by the clock: other work on the board must not make it look slow for as long as it lives.
    """
    # No ccache, no distcc: the program itself, whatever PATH says.
    command = [*compiler, "-c", str(path), "-o", os.devnull]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": str(path.parent)}
    before = os.times()
    running = [subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) for _ in range(copies)]
    try:
        codes = [process.wait(timeout=LIMIT_S) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    after = os.times()
    if any(codes):
        raise subprocess.CalledProcessError(max(codes, key=abs), command)
    used_s = after.children_user + after.children_system - before.children_user - before.children_system
    # The kernel counts in hundredths: a time of nothing would be an endless speed.
    return max(used_s / copies, 0.01)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
