"""Does a wheel for the stable ABI use nothing else of CPython? (PEP 384; pure)

The stable ABI's symbols, and the version that brought each, are abi3info's, which abi3audit is made of. Only
undefined symbols count: what a file defines itself, the interpreter need not have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from abi3info import DATAS, FUNCTIONS
from abi3info.models import Symbol
from packaging.specifiers import SpecifierSet

from farm.verify.linkage import Linkage
from farm.verify.model import Gate, Verdict
from farm.wheel_name import WheelName

_STABLE: Final = frozenset({"abi3", "abi3t"})
_CPYTHON: Final = re.compile(r"cp3(\d+)")
_VERSIONED: Final = re.compile(r"\.cpython-\d+[a-z]*(-[^./]*)?\.so$")
_FIRST: Final = 2  # the stable ABI begins with CPython 3.2
_NEWEST: Final = 60  # far beyond what Requires-Python can mean
_OLDER: Final = "define Py_LIMITED_API as the oldest Python that the tag names, or raise the tag"
_PRIVATE: Final = "use the limited API only (Py_LIMITED_API), or build a wheel for each Python"


def judge_abi3(
    elves: Mapping[str, Linkage], name: WheelName, requires_python: SpecifierSet
) -> tuple[Verdict, ...]:
    """Judge each file that claims the stable ABI, by the wheel's tag or by its own name (``.abi3.so``)."""
    tagged = any(tag.abi in _STABLE for tag in name.tags)
    claiming = [
        path
        for path, linkage in elves.items()
        if path.endswith(".abi3.so") or (tagged and any(map(_is_pythons, linkage.undefined)))
    ]
    floor = _floor(name, requires_python)
    return tuple(_judge(path, elves[path], floor, tagged=tagged) for path in claiming)


def _is_pythons(symbol: str) -> bool:
    return symbol.startswith(("Py", "_Py"))


def _floor(name: WheelName, requires_python: SpecifierSet) -> int:
    """Return the oldest minor version of CPython 3 that the wheel is for."""
    stated = [match for tag in name.tags if (match := _CPYTHON.fullmatch(tag.interpreter))]
    if stated:
        return min(int(match.group(1)) for match in stated)
    admitted = (minor for minor in range(_FIRST, _NEWEST) if admits(requires_python, minor))
    return next(admitted, _FIRST)


def admits(requires_python: SpecifierSet, minor: int) -> bool:
    """Tell whether any release of CPython 3.``minor`` is admitted: ``>=3.13.1`` admits 3.13."""
    return any(requires_python.contains(f"3.{minor}.{micro}") for micro in range(_NEWEST))


def _judge(path: str, linkage: Linkage, floor: int, *, tagged: bool) -> Verdict:
    if tagged and _VERSIONED.search(path):
        evidence = "is named for one CPython, in a wheel for the stable ABI"
        return Verdict(Gate.ABI3, False, path, evidence, "build it for the stable ABI, or change the tag")
    used = {symbol: _added(symbol) for symbol in linkage.undefined}
    private = sorted(s for s, minor in used.items() if minor is None and _is_pythons(s))
    if private:
        evidence = f"uses {', '.join(private)}, not in the stable ABI"
        return Verdict(Gate.ABI3, False, path, evidence, _PRIVATE)
    stable = {symbol: minor for symbol, minor in used.items() if minor is not None}
    newer = sorted((minor, symbol) for symbol, minor in stable.items() if minor > floor)
    if newer:
        listed = ", ".join(f"{symbol} (3.{minor})" for minor, symbol in newer)
        return Verdict(Gate.ABI3, False, path, f"is for 3.{floor} and newer, but uses {listed}", _OLDER)
    evidence = f"stable ABI of 3.{floor}: {len(stable)} symbols"
    return Verdict(Gate.ABI3, True, path, evidence)


def _added(symbol: str) -> int | None:
    """Return the minor version of CPython 3 whose stable ABI has the symbol first, or None."""
    found = FUNCTIONS.get(Symbol(symbol)) or DATAS.get(Symbol(symbol))
    return int(found.added.minor) if found else None
