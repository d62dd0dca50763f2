from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from farm.errors import UpstreamError
from farm.index.merge import UpstreamPage, is_private, merge, read_page
from farm.index.model import ProjectIndex, ProjectStatus, PublishedFile
from farm.index.render import project_html, project_json

DEMO = canonicalize_name("demo")
PAGE = "https://pypi.example/simple/demo/"
SHA = "a" * 64
NAMES = [
    "demo-1.0-cp313-cp313-manylinux_2_39_riscv64.whl",
    "demo-1.0-1-cp313-cp313-manylinux_2_39_riscv64.whl",
    "demo-1.0-cp313-cp313-manylinux_2_17_x86_64.whl",
    "demo-2.0-py3-none-any.whl",
    "demo-1.0.tar.gz",
    "demo-0.9.zip",
    "demo-0.5.tar.bz2",
]


def entry(filename: str = NAMES[0], /, **more: object) -> dict[str, object]:
    url = f"https://files.example/ab/{filename}"
    return {"filename": filename, "url": url, "hashes": {"sha256": SHA}, "size": 7, **more}


def page(*files: dict[str, object], **more: object) -> UpstreamPage:
    content = {"meta": {"api-version": "1.4"}, "name": "Demo", "files": list(files), **more}
    return read_page("demo", json.dumps(content).encode(), PAGE)


def our(filename: str, **more: object) -> PublishedFile:
    version = filename.split("-")[1]
    return PublishedFile(filename, DEMO, version, "b" * 64, 9, None, **more)  # type: ignore[arg-type]


def test_all_that_upstream_says_of_a_file_is_carried() -> None:
    (file,) = page(
        entry(
            **{"requires-python": ">=3.9", "upload-time": "2026-01-02T03:04:05.678Z"},
            **{"core-metadata": {"sha256": "c" * 64}},
            yanked="broken",
            provenance="https://pypi.example/integrity/demo/provenance",
        )
    ).files
    assert (file.requires_python, file.yanked, file.size) == (">=3.9", "broken", 7)
    assert file.metadata_sha256 == "c" * 64
    assert file.upload_time == "2026-01-02T03:04:05.678Z"
    assert file.url == f"https://files.example/ab/{NAMES[0]}"
    merged = merge(ProjectIndex(DEMO, ()), UpstreamPage(DEMO, (file,)))
    (said,) = json.loads(project_json(merged))["files"]
    assert said["url"] == file.url
    assert said["yanked"] == "broken"
    assert said["core-metadata"] == {"sha256": "c" * 64}
    assert said["provenance"] == file.provenance == "https://pypi.example/integrity/demo/provenance"
    assert f'data-provenance="{file.provenance}"' in project_html(merged)
    assert f'href="{file.url}#sha256={SHA}"' in project_html(merged)


@pytest.mark.parametrize(("said", "yanked"), [(False, None), (True, ""), ("", ""), ("why", "why")])
def test_yanked_is_a_word_or_none(said: object, yanked: str | None) -> None:
    assert page(entry(yanked=said)).files[0].yanked == yanked


@pytest.mark.parametrize(
    "wrong",
    [
        entry("demo-1.0.exe"),
        entry("demo-1.0-py3.11.egg"),
        entry("other-1.0-py3-none-any.whl"),
        entry("other-1.0.tar.gz"),
        entry("demo-1.0.tar.gz.asc"),
        entry("../demo-1.0.tar.gz"),
        entry("demo-.tar.gz"),
        entry("demo"),
        entry(hashes={}),
        entry(hashes={"md5": "a" * 32}),
        entry(hashes={"sha256": "A" * 64}),
        entry(hashes={"sha256": SHA + '" onclick="'}),
        entry(size=None),
        entry(size=-1),
        entry(size="7"),
        entry(url="javascript:alert(1)"),
        entry(url="file:///etc/passwd"),
        entry(url="mailto:a@b.example"),
        entry(url="http://[bad"),
    ],
)
def test_what_no_installer_may_take_is_left_out(wrong: dict[str, object]) -> None:
    assert [file.filename for file in page(wrong, entry(NAMES[3])).files] == [NAMES[3]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html></html>",
        b"[]",
        b"{}",
        b'{"name": "demo"}',
        b'{"name": "other", "files": []}',
        b'{"name": 3, "files": []}',
        b'{"name": "demo", "files": [{}]}',
        b'{"name": "demo", "files": [3]}',
        b'{"name": "demo", "files": [{"filename": "x", "hashes": 3}]}',
        b'{"name": "demo", "files": [], "project-status": {"status": "sold"}}',
        b'{"name": "demo", "files": [], "project-status": 3}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_page_is_named(content: bytes) -> None:
    with pytest.raises(UpstreamError, match=r"^https://pypi\.example/simple/demo/: ") as caught:
        read_page("demo", content, PAGE)
    assert caught.value.hint


def test_links_may_be_relative_and_old_pages_have_no_status() -> None:
    read = page(entry(url=f"../../packages/{NAMES[0]}#sha256={SHA}"))
    assert read.files[0].url == f"https://pypi.example/packages/{NAMES[0]}"
    assert read.status is ProjectStatus.ACTIVE


FILES = st.lists(st.sampled_from(NAMES), unique=True)
STATUS = st.sampled_from(list(ProjectStatus))


@given(ours=FILES, theirs=FILES, mine=STATUS, status=STATUS)
def test_ours_win_and_nothing_is_lost(
    ours: list[str], theirs: list[str], mine: ProjectStatus, status: ProjectStatus
) -> None:
    left = ProjectIndex(DEMO, tuple(our(name) for name in ours), mine, "ours")
    right = page(
        *(entry(name) for name in theirs), **{"project-status": {"status": status, "reason": "theirs"}}
    )
    merged = merge(left, right)
    names = [file.filename for file in merged.files]
    assert sorted(names) == sorted({*ours, *theirs})
    assert [file for file in merged.files if file.filename in ours] == sorted(
        left.files, key=lambda f: f.sort_key
    )
    assert all(bool(file.url) == (file.filename not in ours) for file in merged.files)
    assert merged.files == tuple(sorted(merged.files, key=lambda file: file.sort_key))
    if ProjectStatus.QUARANTINED in {mine, status}:
        assert merged.status is ProjectStatus.QUARANTINED
        assert not json.loads(project_json(merged))["files"]
    else:
        assert (merged.status is mine) == (mine is not ProjectStatus.ACTIVE or status is mine)
    # Merged again with the same, nothing changes.
    assert merge(merged, right).files == merged.files
    assert merge(left, UpstreamPage(DEMO)) == ProjectIndex(
        DEMO, tuple(sorted(left.files, key=lambda file: file.sort_key)), mine, "ours"
    )


def test_two_projects_are_not_merged() -> None:
    with pytest.raises(ValueError, match="can't be merged"):
        merge(ProjectIndex(canonicalize_name("other"), ()), UpstreamPage(DEMO))


@pytest.mark.parametrize(
    ("name", "patterns", "private"),
    [
        ("acme-tools", ["acme-*"], True),
        ("Acme_Tools", ["ACME.*"], True),
        ("acme", ["acme-*"], False),
        ("the-acme-x", ["acme-*"], False),
        ("house-keeping", ["house_keeping"], True),
        ("house-keepings", ["house_keeping"], False),
        ("anything", ["*"], True),
        ("anything", [], False),
        ("axb", ["a.b"], False),
    ],
)
def test_private_names(name: str, patterns: list[str], private: bool) -> None:
    assert is_private(name, patterns) is private
