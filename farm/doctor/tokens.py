"""Tokens of other registries: are they there, how long are they good, may they do too much."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Final

from farm.doctor.model import Check, fail, ok, warn
from farm.doctor.served import ends_on
from farm.errors import InputError
from farm.registry import Registry, token_of
from farm.registry.config import NEVER

# What registries call a token that may do more than publish (GitLab's scopes, PyPI's "entire account").
_WIDE: Final = re.compile(
    r"\b(api|sudo|admin\w*|entire account|all projects|write_repository)\b", re.IGNORECASE
)


def tokens(
    registries: Iterable[Registry], state: Path, now: float, environment: Mapping[str, str] | None = None
) -> Iterator[Check]:
    """Check all registries of the inventory."""
    for registry in registries:
        yield _there(registry, state, environment)
        yield _expiry(registry, now)
        yield _scope(registry)


def _there(registry: Registry, state: Path, environment: Mapping[str, str] | None) -> Check:
    name = f"registry {registry.name}: token"
    try:
        token_of(registry, state, environment)
    except InputError as error:
        if registry.token_env is not None and "not set" in error.message:
            # Timers and people have different environments.
            return warn(name, error.message, error.hint)
        return fail(name, error.message, error.hint)
    return ok(name, f"from {registry.token_env or registry.token_vault}")


def _expiry(registry: Registry, now: float) -> Check:
    name = f"registry {registry.name}: expiry"
    if registry.expires == NEVER:
        return ok(name, "never, as the inventory says")
    if registry.expires is None:
        return warn(
            name, "nobody said when its token ends", "write `expires: 2027-01-31`, or `never`, beside it"
        )
    # It is good on its last day.
    end = datetime.combine(registry.expires, time.max, UTC)
    return ends_on(
        name, end, now, "make a new one on the registry's page, and write its date into the inventory"
    )


def _scope(registry: Registry) -> Check:
    name = f"registry {registry.name}: scope"
    if registry.scope is None:
        return warn(name, "nobody said what its token may do", "write `scope: ...` beside it")
    if found := _WIDE.search(registry.scope):
        hint = "take one that may only publish: at GitLab, a deploy token with write_package_registry"
        return warn(name, f"{registry.scope!r}: `{found[0]}` may do more than publish", hint)
    return ok(name, registry.scope)
