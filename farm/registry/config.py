"""Registries that the inventory names, in the variable ``farm_registries`` of the group ``index`` (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from farm.errors import InputError

VARIABLE: Final = "farm_registries"
NEVER: Final = "never"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_EXAMPLE: Final = "docs/reference.md, `Other registries`, shows all keys"


def _address(url: str) -> str:
    """Refuse what is no plain address: a login in it would be shown wherever the address is."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http(s) address without ? and #")
    if parts.username or parts.password:
        raise ValueError("must hold no login; the token comes from token_env or token_vault")
    return url


Url = Annotated[str, AfterValidator(_address)]


class Registry(BaseModel):
    """One registry, as the inventory describes it.

    Attributes:
        name: what ``farm publish --to`` calls it.
        url: where files are posted, as twine's ``repository_url``.
        simple_url: its simple index (PEP 503 or 691), where it is seen what is there already.
        user: the user that the token goes with; PyPI and GitLab take ``__token__``.
        token_env: environment variable that holds the token.
        token_vault: file of ansible-vault with a mapping of registries' names to tokens, relative to the
            state folder.
        scope: what the token may do, in words, as its registry shows it.
        expires: the last day on which the token is good, or ``never``; None: nobody said.
        plain_http: whether the token may go over a network unencrypted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_min_length=1)

    name: str
    url: Url
    simple_url: Url
    user: str = "__token__"
    token_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    token_vault: str | None = None
    scope: str | None = None
    expires: date | Literal["never"] | None = None
    plain_http: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.token_env is None) == (self.token_vault is None):
            raise ValueError("give either token_env or token_vault")
        for url in (self.url, self.simple_url):
            parts = urlsplit(url)
            if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not self.plain_http:
                raise ValueError(f"{url} would show the token to the network: use https, or plain_http: true")
        return self

    @property
    def asks_with_token(self) -> bool:
        """Whether the simple index gets the token, too: only where it is the same server."""
        return urlsplit(self.url)[:2] == urlsplit(self.simple_url)[:2]


def registries_of(variables: Mapping[str, object], source: str) -> dict[str, Registry]:
    """Return the registries that the index host's variables name; none where there is no such variable.

    Raises:
        InputError: what stands there is no registry; the message names the key.
    """
    content = variables.get(VARIABLE, {})
    if not isinstance(content, dict):
        raise InputError(f"{source}: {VARIABLE} is no mapping of names", hint=_EXAMPLE)
    return {str(name): _registry(str(name), value, source) for name, value in content.items()}


def find(registries: Mapping[str, Registry], name: str) -> Registry:
    """Return the registry of this name. Raises InputError where there is none."""
    if name not in registries:
        known = ", ".join(sorted(registries)) or f"none; name some in {VARIABLE}, in group_vars of the index"
        raise InputError(f"{name}: no such registry", hint=f"the inventory has: {known}")
    return registries[name]


def _registry(name: str, value: object, source: str) -> Registry:
    where = f"{source}: {VARIABLE}.{name}"
    if not isinstance(value, dict):
        raise InputError(f"{where} is no mapping", hint=_EXAMPLE)
    for key, item in value.items():
        if isinstance(item, str) and "{{" in item:
            raise InputError(
                f"{where}.{key} is a template, which nothing evaluates here", hint="write the value itself"
            )
    try:
        return Registry.model_validate({"name": name, **value})
    except ValidationError as error:
        # Neither pydantic's text nor the value: someone may have written a token where none belongs.
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "it"
        raise InputError(
            f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}", hint=_EXAMPLE
        ) from None
