"""A job's spec as the store keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache

from farm.plan import JobSpec
from farm.recipe import Recipe


def spec_to_json(spec: JobSpec) -> str:
    """Return a spec as text."""
    return json.dumps(asdict(spec))


def spec_from_json(text: str) -> JobSpec:
    """Return the spec of a text, which a farm of another version may have written."""
    content = json.loads(text)
    return JobSpec(**{**content, "recipe": _recipe(json.dumps(content["recipe"]))})


@lru_cache(maxsize=1024)
def _recipe(text: str) -> Recipe:
    # Thousands of jobs share a few, and each is 2 KiB.
    return Recipe.from_plain(json.loads(text))
