"""Extensions that setuptools builds side by side, and what shows that they got into each other's way.

Two that are made of the same file are compiled to the same object. One after the other that does no harm, for
setuptools compiles it again for each; side by side, an extension may be linked with half an object, or with
one that was compiled for the other, by other macros. The compilers' wrapper notes it.
"""

from __future__ import annotations

from collections.abc import Mapping

from farm.node.places import Places

# What names another compiler, which has no wrapper: what it does would not be noticed.
COMPILERS = frozenset({"CC", "CXX"})


def side_by_side(places: Places, most: int, own: Mapping[str, str]) -> dict[str, str]:
    """Tell setuptools how many extensions it may build at once; returns the variables for that.

    Files of one extension are never compiled side by side, nor is anything before setuptools 65.5. ``own`` is
    what the recipe adds to the variables.
    """
    extensions = 1 if COMPILERS & own.keys() else most
    places.setuptools_config.write_text(f"[build_ext]\nparallel = {extensions}\n", encoding="utf-8")
    return {
        "DIST_EXTRA_CONFIG": str(places.setuptools_config),
        "FARM_OBJECTS": str(places.objects) if extensions > 1 else "",
    }


def mixed_up(places: Places, variables: Mapping[str, str]) -> bool:
    """Return whether an extension may have an object that was made for another one."""
    parallel = variables["FARM_OBJECTS"] and variables["DIST_EXTRA_CONFIG"] == str(places.setuptools_config)
    return bool(parallel) and (places.objects / "twice").exists()
