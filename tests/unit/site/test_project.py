"""Which wheels there are, by version and Python."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from packaging.version import Version

from farm.index import ProjectIndex, PublishedFile
from farm.schedule.widths import Widths
from farm.site.home import home_page, snippets, trusted_host
from farm.site.model import About, CellState
from farm.site.project import Builds, matrix, newest_version, project_row
from farm.site.render import size, twin
from farm.site.upstream import read_upstream
from farm.site.wheels import column_of, pythons_of, runs_on
from farm.store import Failure, Job, State
from farm.wheel_name import parse_name
from tests.unit.plankit import spec

NOBODY = Builds({}, ())


def file(
    version: str, tag: str = "cp313-cp313", *, yanked: str | None = None, at: str = "2026-01-01T00:00:00Z"
) -> PublishedFile:
    name = f"demo-{version}-{tag}-manylinux_2_39_riscv64.whl"
    return PublishedFile(
        name, canonicalize_name("demo"), version, "ab" * 32, 10, None, upload_time=at, yanked=yanked
    )


def index(*files: PublishedFile) -> ProjectIndex:
    return ProjectIndex(canonicalize_name("demo"), files)


def job(version: str, python: str, state: State, failure: Failure | None = None) -> Job:
    wanted = spec("demo", version, python)
    return Job(
        wanted.job_id, wanted, state, 1, None, Widths(1), failure, "", 0.0, None, None, None, None, False
    )


@pytest.mark.parametrize(
    ("tag", "word"),
    [
        ("cp313-cp313", "3.13"),
        ("cp314-cp314t", "3.14t"),
        ("cp39-abi3", "3.9+"),
        ("py3-none", "any"),
        ("py2.py3-none", "any"),
        ("pp311-pypy311_pp73", "pp311-pypy311_pp73"),
        ("cp313-none", "cp313-none"),
    ],
)
def test_tags_as_people_say_them(tag: str, word: str) -> None:
    assert runs_on(parse_name(f"demo-1-{tag}-manylinux_2_39_riscv64.whl")) == word


def test_columns_are_in_the_order_of_pythons() -> None:
    files = [
        file("1", "cp310-cp310"),
        file("1", "cp39-cp39"),
        file("1", "cp313-cp313t"),
        file("1", "cp313-cp313"),
    ]
    assert pythons_of(files) == ("3.9", "3.10", "3.13", "3.13t")
    assert column_of("3.9+") == "abi3"


def test_what_failed_and_what_is_yanked_is_in_the_matrix() -> None:
    jobs = [
        job("2.0", "cp313", State.FAILED, Failure.BUILD),
        job("1.0", "cp314", State.QUEUED),
        job("1.0", "cp313", State.PUBLISHED),
    ]
    files = index(file("0.9", yanked="broken"), file("1.0"), file("1.0", "cp39-abi3"))
    columns, rows = matrix(files, Builds({each.job_id: each for each in jobs}, ()), {})
    assert columns == ("3.13", "3.14", "abi3")
    found = {row.version: [(cell.state, cell.text) for cell in row.cells] for row in rows}
    nothing = (CellState.NOTHING, "")
    assert found == {
        "2.0": [(CellState.FAILED, "build"), nothing, nothing],
        "1.0": [(CellState.PUBLISHED, ""), (CellState.WAITING, "queued"), (CellState.PUBLISHED, "3.9+")],
        "0.9": [(CellState.YANKED, ""), nothing, nothing],
    }
    assert [row.version for row in rows] == ["2.0", "1.0", "0.9"]
    assert rows[0].path == ""


def test_a_rebuild_takes_the_place_of_the_yanked_wheel() -> None:
    rebuilt = replace(file("1.0"), filename="demo-1.0-1-cp313-cp313-manylinux_2_39_riscv64.whl")
    for files in ((file("1.0", yanked=""), rebuilt), (rebuilt, file("1.0", yanked=""))):
        ((cell,),) = (row.cells for row in matrix(index(*files), NOBODY, {})[1])
        assert cell.state is CellState.PUBLISHED
        assert "1.0-1-cp313" in cell.path


def test_the_newest_is_what_installers_choose() -> None:
    files = [file("1.0"), file("2.0", yanked=""), file("1.1rc1")]
    assert newest_version(files) == "1.0"
    assert newest_version([file("2.0", yanked="")]) == "2.0"
    assert newest_version([file("1.1rc1"), file("1.0", yanked="")]) == "1.1rc1"


VERSIONS = st.lists(
    st.sampled_from(["1.0", "1.10", "1.9", "2.0rc1", "2.0", "1!0.1"]), min_size=1, unique=True
)


@given(VERSIONS)
def test_rows_are_newest_first_and_whole(versions: list[str]) -> None:
    columns, rows = matrix(index(*map(file, versions)), NOBODY, {})
    assert [row.version for row in rows] == sorted(versions, key=Version, reverse=True)
    assert all(len(row.cells) == len(columns) for row in rows)


def test_the_home_page_has_the_newest_releases_of_all() -> None:
    rows = [
        project_row(
            index(file("1.0", at="2026-01-03T00:00:00Z"), file("0.9", at="2026-01-01T00:00:00Z")),
            About("", "", ()),
        ),
        replace(project_row(index(file("5", at="2026-01-02T00:00:00Z")), About("", "", ())), project="a"),
    ]
    page = home_page(rows, "https://example.org")
    assert [release.version for release in page.newest] == ["1.0", "5", "0.9"]
    assert [row.project for row in page.projects] == ["a", "demo"]
    assert (page.base_url, page.wheels, page.size) == ("https://example.org/", 3, 30)
    assert json.loads(twin(page))["newest"][0]["pythons"] == ["3.13"]


def test_plain_http_beyond_loopback_must_be_trusted() -> None:
    assert trusted_host("http://127.0.30.30:8080/") == trusted_host("https://wheels.example/") == ""
    assert trusted_host("http://wheels.example:8080/") == "wheels.example"
    texts = [snippet.text for snippet in snippets("http://wheels.example:8080/") if snippet.client == "pip"]
    assert all("trusted-host" in text for text in texts)
    assert not any("trusted-host" in snippet.text for snippet in snippets(""))


def test_upstream_is_read_as_an_installer_reads_it() -> None:
    files = [
        {"filename": "demo-1.0.tar.gz", "upload-time": "2026-01-01T00:00:00.5Z"},
        {"filename": "demo-1.1-cp313-cp313-manylinux_2_39_riscv64.whl", "yanked": False},
        {"filename": "demo-1.2-py3-none-any.whl", "yanked": ""},
        {"filename": "demo-2.0rc1.tar.gz"},
        {"filename": "demo-1.0.win32.exe"},
    ]
    said = read_upstream(json.dumps({"files": files}).encode())
    assert (said.latest, said.riscv64_since, said.riscv64_latest, said.files) == ("1.1", "1.1", True, 3)
    assert read_upstream(b'{"files": []}').latest == ""
    assert read_upstream(b"\xff").problem != ""


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 KB"),
        (999_499, "999 KB"),
        (999_600, "1.0 MB"),
        (2_345_678_901, "2.3 GB"),
    ],
)
def test_sizes_for_people(number: int, text: str) -> None:
    assert size(number) == text
