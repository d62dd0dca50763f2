"""Strangers' texts, made harmless for a page: addresses, logs, what XML can't hold (pure)."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote, urlsplit

LONGEST_URL: Final = 2000
LONGEST_LINE: Final = 2000
# ECMA-48: what colours a terminal and moves its cursor, titles of windows included.
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Bidirectional overrides turn what is read into something else than what is there (CVE-2021-42574).
_STEERING: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def web_url(text: str) -> str:
    """Return an address as it may stand in a link: http or https, with a host, no login; else nothing."""
    text = text.strip()
    if len(text) > LONGEST_URL or any(c.isspace() or not c.isprintable() for c in text):
        return ""
    try:
        parts = urlsplit(text)
        plain = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return ""
    return text if plain and "@" not in parts.netloc and "\\" not in text else ""


def clean(text: str, longest: int = LONGEST_LINE) -> str:
    """Return one line of a stranger's text: no control characters, nothing that turns the line around."""
    line = " ".join(_readable(text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def log_lines(data: bytes) -> list[str]:
    """Return a log's lines as a terminal would leave them: no colours, the last state of progress bars."""
    lines = _ESCAPES.sub("", data.decode("utf-8", "replace")).split("\n")
    return [_readable(line.rstrip("\r").rpartition("\r")[2].replace("\t", "    ")).rstrip() for line in lines]


def path_of(*parts: str) -> str:
    """Return a path below the root of the index as it is written in a link."""
    return "/".join(quote(part) for part in parts)


def anchor(name: str) -> str:
    """Return the id of a section about a wheel or a board: its name, of characters that need no quoting."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name.removesuffix(".whl"))


def _readable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(_kept(c) for c in text)


def _kept(c: str) -> str:
    if c.isprintable():
        return c
    if c.isspace():
        return " "
    # What is merely invisible (a soft hyphen) goes; what was there to deceive, or is no text, leaves a mark.
    return "" if unicodedata.category(c) == "Cf" and c not in _STEERING else "\N{REPLACEMENT CHARACTER}"
