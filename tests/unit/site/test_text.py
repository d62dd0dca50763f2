"""Strangers' texts made harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.site.text import LONGEST_LINE, clean, log_lines, path_of, web_url


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/",
        "http://127.0.0.1:8080/a?b=c&d#e",
        "HTTPS://example.org",
        "  https://example.org  ",
    ],
)
def test_web_addresses_stay(url: str) -> None:
    assert web_url(url) == url.strip()


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "file:///etc/passwd",
        "//example.org/",
        "https:///nothing",
        "https://user:secret@example.org/",
        "https://example.org\\@evil.example",
        "https://example.org/\u202egnp.exe",
        "https://exa mple.org",
        "https://[::1",
        "https://example.org:99999/",
        "https://example.org/" + "a" * 3000,
        "",
    ],
)
def test_other_addresses_become_nothing(url: str) -> None:
    assert web_url(url) == ""


@given(st.text())
def test_a_cleaned_text_is_one_printable_line(text: str) -> None:
    line = clean(text)
    assert line.isprintable()
    assert len(line) <= LONGEST_LINE
    assert clean(line) == line


def test_a_cleaned_text_says_the_same() -> None:
    assert clean("Grüße,\n  日本語\tand 🦀") == "Grüße, 日本語 and 🦀"
    assert clean("x" * 50, 10) == "xxxxxxxxx…"


@given(st.binary())
def test_a_log_is_lines_that_steer_nothing(data: bytes) -> None:
    for line in log_lines(data):
        assert "\x1b" not in line
        assert "\r" not in line
        assert line.replace(" ", "").isprintable()


def test_a_log_is_as_a_terminal_leaves_it() -> None:
    log = b"\x1b[32mgreen\x1b[0m\r\n 10%\r 55%\r100%\n\x1b]0;title\x07a\tb\n\xff\x00"
    assert log_lines(log) == ["green", "100%", "a    b", "��"]


def test_paths_are_quoted() -> None:
    assert path_of("project", "a", "1!1.0+b") == "project/a/1%211.0%2Bb"
