"""Registries of the inventory, and the form that is posted to them."""

from __future__ import annotations

from datetime import date
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.metadata import RawMetadata

from farm.errors import InputError
from farm.registry import find, registries_of, token_of
from farm.registry.form import Body, Upload, form_of, metadata_fields
from farm.wheel_name import parse_name
from tests.unit.verify.wheelkit import NATIVE, write_wheel

GOOD: dict[str, object] = {
    "url": "https://gitlab.example.org/api/v4/projects/42/packages/pypi",
    "simple_url": "https://gitlab.example.org/api/v4/projects/42/packages/pypi/simple/",
    "token_env": "GITLAB_TOKEN",
    "scope": "project 42, api",
    "expires": "2027-01-31",
}


def variables(**changes: object) -> dict[str, object]:
    return {"farm_registries": {"gitlab": {**GOOD, **changes}}}


def test_a_registry_is_read() -> None:
    found = registries_of(variables(), "site")["gitlab"]
    assert (found.name, found.user, found.expires) == ("gitlab", "__token__", date(2027, 1, 31))
    assert found.asks_with_token
    assert find({"gitlab": found}, "gitlab") is found


def test_an_inventory_without_registries() -> None:
    assert registries_of({}, "site") == {}
    with pytest.raises(InputError) as caught:
        find({}, "pypi")
    assert "farm_registries" in caught.value.hint


def test_the_token_is_not_shown_to_another_server() -> None:
    pypi = {"url": "https://upload.pypi.org/legacy/", "simple_url": "https://pypi.org/simple/"}
    assert not registries_of(variables(**pypi), "site")["gitlab"].asks_with_token


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"url": "ftp://example.org/"}, "url: must be an http"),
        ({"url": "https://me:glpat-SECRET@example.org/"}, "url: must hold no login"),
        ({"url": "http://example.org/"}, "would show the token"),
        ({"simple_url": "http://example.org/simple/"}, "would show the token"),
        ({"token": "glpat-SECRET"}, "token: Extra inputs"),
        ({"token_env": None}, "either token_env or token_vault"),
        ({"token_vault": "vault.yml"}, "either token_env or token_vault"),
        ({"token_env": "glpat-SECRET"}, "token_env: String should match"),
        ({"expires": "next year"}, "expires"),
        ({"user": "{{ somebody }}"}, "user is a template"),
        ({"scope": ""}, "scope"),
    ],
)
def test_a_wrong_registry_is_named_without_what_may_be_a_secret(changes: dict[str, object], why: str) -> None:
    with pytest.raises(InputError) as caught:
        registries_of(variables(**changes), "site")
    assert why in caught.value.message
    assert "SECRET" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("content", ["gitlab", ["gitlab"], {"gitlab": "https://example.org"}])
def test_what_is_no_mapping(content: object) -> None:
    with pytest.raises(InputError, match="mapping"):
        registries_of({"farm_registries": content}, "site")


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "GITLAB_TOKEN is not set"),
        ({"GITLAB_TOKEN": "  "}, "GITLAB_TOKEN is not set"),
        ({"GITLAB_TOKEN": "SECRET with spaces"}, "holds spaces"),
        ({"GITLAB_TOKEN": "SECRET\x07"}, "holds spaces"),
    ],
)
def test_a_token_that_is_none(environment: dict[str, str], why: str, tmp_path: Path) -> None:
    registry = registries_of(variables(), "site")["gitlab"]
    with pytest.raises(InputError) as caught:
        token_of(registry, tmp_path, environment)
    assert why in caught.value.message
    assert "SECRET" not in caught.value.message + caught.value.hint


def test_the_token_comes_from_the_environment(tmp_path: Path) -> None:
    registry = registries_of(variables(), "site")["gitlab"]
    assert token_of(registry, tmp_path, {"GITLAB_TOKEN": "abc\n"}) == "abc"


def test_a_vault_that_is_not_there(tmp_path: Path) -> None:
    registry = registries_of(variables(token_env=None, token_vault="tokens.vault"), "site")["gitlab"]
    with pytest.raises(InputError, match=r"no vault .*tokens\.vault"):
        token_of(registry, tmp_path)


def parse(body: Body) -> list[tuple[str, str | None, bytes]]:
    """Read a form with the standard library's parser: name, file name, content."""
    data = b"".join(body)
    assert len(data) == len(body)
    message = BytesParser(policy=HTTP).parsebytes(
        f"Content-Type: {body.content_type}\r\n\r\n".encode() + data
    )
    parts: Any = message.get_payload()
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_payload(decode=True),
        )
        for part in parts
    ]


def test_the_form_holds_metadata_hashes_and_the_file(tmp_path: Path) -> None:
    metadata = (
        "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nSummary: Über\nKeywords: a,b\nClassifier: X\n"
        "Classifier: Y\nRequires-Dist: one\nProject-URL: Home, https://example.org\nPlatform: any\n"
        "License-File: LICENSE\nRequires-Python: >=3.9\n\nLong\ntext\n"
    )
    wheel = write_wheel(tmp_path, metadata=metadata)
    form = form_of(wheel, parse_name(wheel.name))
    parts = parse(Body(form))
    fields = [(name, content.decode()) for name, file, content in parts if file is None]
    assert parts[-1] == ("content", NATIVE, wheel.read_bytes())
    expected = {
        (":action", "file_upload"),
        ("protocol_version", "1"),
        ("filetype", "bdist_wheel"),
        ("pyversion", "cp313"),
        ("sha256_digest", form.sha256),
        ("name", "demo"),
        ("version", "1.0"),
        ("summary", "Über"),
        ("keywords", "a,b"),
        ("classifiers", "X"),
        ("classifiers", "Y"),
        ("requires_dist", "one"),
        ("project_urls", "Home, https://example.org"),
        ("platform", "any"),
        ("requires_python", ">=3.9"),
        ("description", "Long\ntext\n"),
    }
    assert expected <= set(fields)
    assert "license_file" not in dict(fields), "Metadata 2.1 has no such field"


def test_licence_files_of_new_metadata_are_sent() -> None:
    raw: RawMetadata = {"metadata_version": "2.4", "license_files": ["LICENSE", "NOTICE"]}
    assert [value for key, value in metadata_fields(raw) if key == "license_file"] == ["LICENSE", "NOTICE"]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=40)


@given(content=st.binary(max_size=3000), values=st.lists(texts, max_size=4))
def test_any_bytes_arrive_as_they_are(
    content: bytes, values: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("body") / NATIVE
    path.write_bytes(content)
    body = Body(Upload(path, tuple(("summary", value) for value in values), ""))
    data = b"".join(body)
    assert len(data) == len(body)
    assert data == b"".join(body), "it can be sent again"
    head, _, tail = data.partition(b"application/octet-stream\r\n\r\n")
    assert tail[: len(content)] == content
    assert tail[len(content) :].startswith(b"\r\n--")
    for value in values:
        assert value.encode() in head
