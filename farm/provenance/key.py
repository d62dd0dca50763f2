"""The farm's own signing key, and its public half on the index."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from farm.errors import InputError
from farm.files import write_file
from farm.provenance.dsse import pem_of, read_public_keys


def signing_key(path: Path) -> Ed25519PrivateKey:
    """Return the farm's key; the first call makes it, readable by its owner only.

    Raises:
        InputError: it can't be read, is no such key, or others may read it.
    """
    if not path.exists():
        _make(path)
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise InputError(f"{path}: others may read the farm's signing key", hint=f"chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="the signing key must be readable") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: no private key in PEM", hint="restore it from a backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: not an Ed25519 key", hint="restore it from a backup")
    return key


def _make(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    mine = path.with_name(f".{path.name}.{os.getpid()}.{id(key)}")
    write_file(mine, pem, 0o600)
    try:
        os.link(mine, path)  # of two that make one at once, the first wins, and both use that one
    except FileExistsError:
        return
    finally:
        mine.unlink()


def publish_key(private: Path, public: Path) -> None:
    """Bring the public half into the index's file of keys, after those that are there.

    Older keys stay: what they signed goes on to hold. Without a private key there is nothing to do.

    Raises:
        InputError: one of the files makes no sense.
    """
    if not private.exists():
        return
    key = signing_key(private).public_key()
    held = public.read_bytes() if public.exists() else b""
    if held and key in read_public_keys(held, str(public)):
        return
    write_file(public, held + pem_of(key))
