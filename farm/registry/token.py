"""The token of a registry: out of the environment or a vault, never shown, never in a process list."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from farm.errors import InputError
from farm.registry.config import Registry

VAULT_S: Final = 60.0
_PASSWORD: Final = "set ANSIBLE_VAULT_PASSWORD_FILE to a file with the vault's password"  # noqa: S105


def token_of(registry: Registry, state: Path, environment: Mapping[str, str] | None = None) -> str:
    """Return a registry's token.

    Raises:
        InputError: it is not where the inventory says; nothing of what was found instead is in the message.
    """
    environment = os.environ if environment is None else environment
    if registry.token_env is not None:
        token = environment.get(registry.token_env, "").strip()
        if not token:
            raise InputError(
                f"{registry.name}: no token, the variable {registry.token_env} is not set",
                hint=f"read -rs {registry.token_env} && export {registry.token_env}",
            )
        return _plain(token, registry)
    return _plain(_from_vault(registry, state / str(registry.token_vault)), registry)


def _plain(token: str, registry: Registry) -> str:
    # requests would write anything else into a header in one encoding or another.
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise InputError(
            f"{registry.name}: its token holds spaces, line ends or letters beyond ASCII",
            hint="copy it again from the registry's page",
        )
    return token


def _from_vault(registry: Registry, path: Path) -> str:
    if not path.is_file():
        raise InputError(
            f"{registry.name}: no vault {path}",
            hint=f"ansible-vault create {path}, with `{registry.name}: TOKEN`",
        )
    command = [str(Path(sys.executable).parent / "ansible-vault"), "view", str(path)]
    try:
        # Without a terminal: a timer must not wait for somebody who types a password.
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=VAULT_S,
            start_new_session=True,
            env={**os.environ, "PAGER": "cat", "ANSIBLE_NOCOLOR": "1"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(
            f"{path}: ansible-vault can't be run: {type(error).__name__}", hint=_PASSWORD
        ) from error
    if done.returncode != 0:
        raise InputError(f"{path}: ansible-vault can't open it", hint=_PASSWORD)
    try:
        content = yaml.safe_load(done.stdout)
    except yaml.YAMLError:
        content = None  # its message would quote the line
    token = content.get(registry.name) if isinstance(content, dict) else None
    if not isinstance(token, str) or not token:
        raise InputError(
            f"{path}: has no token of {registry.name}",
            hint=f"ansible-vault edit {path}: one line `{registry.name}: TOKEN` for each registry",
        )
    return token
