"""What is read of core metadata, and which version is the newest."""

from __future__ import annotations

from email.parser import HeaderParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from farm.index.model import PublishedFile
from farm.index.pypi import newest
from farm.index.read import headers

NAMES = st.from_regex(r"[A-Z][a-z]{0,6}(?:-[A-Z][a-z]{0,6})?", fullmatch=True)
# Printable, without what email's parser alone takes for the end of a line.
WORDS = st.text(st.characters(categories=("L", "N", "P", "Sm"), codec="utf-8"), min_size=1, max_size=9)
LINES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
VALUES = st.lists(LINES, min_size=1, max_size=3)
FOLDS = st.sampled_from([" ", "\t", "        "])


@given(
    fields=st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=8),
    fold=FOLDS,
    end=st.sampled_from(["\n", "\r\n"]),
    body=st.one_of(st.none(), LINES),
)
def test_it_reads_what_the_parser_of_mail_reads(
    fields: list[tuple[str, list[str]]], fold: str, end: str, body: str | None
) -> None:
    head = end.join(f"{name}: {f'{end}{fold}'.join(lines)}" for name, lines in fields)
    text = head + (end if body is None else f"{end}{end}{body}")
    found, rest = headers(text.encode())
    message = HeaderParser().parsestr(text)
    expected: dict[str, list[str]] = {}
    for name, value in message.items():
        expected.setdefault(name.lower(), []).append("\n".join(line.strip() for line in value.splitlines()))
    assert (found, rest) == (expected, message.get_payload())


def file(version: str, yanked: str | None = None) -> PublishedFile:
    name = f"demo-{version}-py3-none-any.whl"
    return PublishedFile(name, canonicalize_name("demo"), version, "00", 1, None, yanked=yanked)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], ""),
        ([file("1.0"), file("2.0rc1")], "1.0"),
        ([file("1.0"), file("2.0", yanked="broken")], "1.0"),
        ([file("1.0rc1"), file("1.0rc2")], "1.0rc2"),
        ([file("1.0", yanked=""), file("2.0rc1")], "2.0rc1"),
        ([file("1.0", yanked=""), file("2.0", yanked="")], "2.0"),
    ],
)
def test_the_newest_is_final_and_not_yanked_if_there_is_such(
    files: list[PublishedFile], expected: str
) -> None:
    assert newest(files) == expected
