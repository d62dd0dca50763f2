"""Extensions that setuptools builds side by side, and what shows that they got into each other's way.

Two that are made of the same file are compiled to the same object. One after the other that does no harm, for
setuptools compiles it again for each; side by side, an extension may be linked with half an object, or with
one that was compiled for the other, by other macros. The compilers' wrapper notes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from farm.node.places import Places


def side_by_side(places: Places, extensions: int) -> dict[str, str]:
    """Tell setuptools how many extensions it may build at once; returns the variables for that.

    Files of one extension are never compiled side by side, nor is anything before setuptools 65.5.
    """
    places.setuptools.write_text(f"[build_ext]\nparallel = {extensions}\n", encoding="utf-8")
    return {
        "DIST_EXTRA_CONFIG": str(places.setuptools),
        "FARM_OBJECTS": str(places.objects) if extensions > 1 else "",
    }


def mixed_up(places: Places, variables: Mapping[str, str], source: Path) -> bool:
    """Return whether an extension may have an object that was made for another one.

    That is so, too, where a compiler that has no wrapper made them.
    """
    if not variables["FARM_OBJECTS"] or variables["DIST_EXTRA_CONFIG"] != str(places.setuptools):
        return False
    if places.objects.exists():
        return (places.objects / "twice").exists()
    return any(source.glob("build/temp.*/**/*.o"))
