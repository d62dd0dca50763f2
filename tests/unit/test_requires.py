from __future__ import annotations

import io
import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from farm.errors import CycleError, ExitCode, InputError
from farm.recipe import Recipe
from farm.requires import (
    Declared,
    OrderedJob,
    declared,
    find_cycle,
    marker_environment,
    order,
    refuse_cycle,
)
from tests.unit.plankit import spec

DEFAULT = (Requirement("setuptools>=40.8.0"),)
PYPROJECT = b'[build-system]\nrequires = ["cffi>=1.15", "Cython"]\n'
PKG_INFO = b"Metadata-Version: 2.2\nName: demo\nVersion: 1.0\nRequires-Dist: numpy>=1.26\n\ntext\n"


def build_requires(sdist: Path) -> tuple[Requirement, ...]:
    return declared(sdist).build


def requirements(*texts: str) -> tuple[Requirement, ...]:
    return tuple(map(Requirement, texts))


def job(
    title: str,
    *build: str,
    run: tuple[str, ...] = (),
    python: str = "cp313",
    constraints: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
) -> OrderedJob:
    project, version = title.split()
    return OrderedJob(
        f"{project}-{version}-{python}",
        project,
        version,
        python,
        Declared(requirements(*build), requirements(*run)),
        requirements(*constraints),
        needs,
    )


def awaited(one: OrderedJob, *others: OrderedJob) -> set[str]:
    titles = {other.job_id: f"{other.title} {other.python}".removesuffix(" cp313") for other in others}
    return {titles[job_id] for job_id in order((one, *others))[one.job_id]}


def tar_of(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sdist(directory: Path, content: bytes, name: str = "demo-1.0.tar.gz") -> Path:
    path = directory / name
    path.write_bytes(content)
    return path


# -- what an sdist says ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["demo-1.0.tar.gz", "demo-1.0.tar.bz2", "demo-1.0.zip"])
def test_an_sdist_is_read_whatever_its_archive(tmp_path: Path, kind: str) -> None:
    members = {
        "demo-1.0/vendored/pyproject.toml": b'[build-system]\nrequires = ["wrong"]\n',
        "demo-1.0/demo.egg-info/PKG-INFO": b"Requires-Dist: wrong\n",
        "demo-1.0/pyproject.toml": PYPROJECT,
        "demo-1.0/PKG-INFO": PKG_INFO,
    }
    if kind.endswith(".zip"):
        content = zip_of(members)
    else:
        content = tar_of(members, "w:gz" if kind.endswith("gz") else "w:bz2")
    path = sdist(tmp_path, content, kind)
    assert declared(path) == Declared(requirements("cffi>=1.15", "Cython"), requirements("numpy>=1.26"))
    assert build_requires(path) == requirements("cffi>=1.15", "Cython")


def test_names_may_begin_with_a_dot(tmp_path: Path) -> None:
    content = tar_of({"./demo-1.0/pyproject.toml": PYPROJECT})
    assert build_requires(sdist(tmp_path, content)) == requirements("cffi>=1.15", "Cython")


@pytest.mark.parametrize(
    "members", [{"demo-1.0/setup.py": b""}, {"demo-1.0/pyproject.toml": b"[project]\nname = 'demo'\n"}]
)
def test_without_a_table_it_is_setuptools(tmp_path: Path, members: dict[str, bytes]) -> None:
    assert build_requires(sdist(tmp_path, tar_of(members))) == DEFAULT


@pytest.mark.parametrize(
    "pyproject",
    [
        b"[build-system",
        b"\xff\xfe",
        b"[build-system]\nrequires = 'cffi'\n",
        b"a = " + b"[" * 100_000,
        b"#" * (5 << 20),
    ],
    ids=["no toml", "no text", "no list", "deep", "huge"],
)
def test_a_broken_pyproject_is_for_the_build_to_judge(tmp_path: Path, pyproject: bytes) -> None:
    found = build_requires(sdist(tmp_path, tar_of({"demo-1.0/pyproject.toml": pyproject})))
    assert found in {(), DEFAULT}


def test_what_is_no_requirement_is_left_out(tmp_path: Path) -> None:
    texts = ["numpy", "a b", "c>=" + "9" * 5000, "d; " + "(" * 3000 + "os_name == 'a'" + ")" * 3000]
    pyproject = f"[build-system]\nrequires = {texts!r}\n".replace("'a'", "a").encode()
    found = build_requires(sdist(tmp_path, tar_of({"demo-1.0/pyproject.toml": pyproject})))
    assert found == requirements("numpy")


@pytest.mark.parametrize("name", ["demo-1.0.tar.gz", "demo-1.0.zip"])
def test_a_damaged_archive_says_nothing(tmp_path: Path, name: str) -> None:
    members = {f"demo-1.0/{number}": bytes(1000) + str(number).encode() for number in range(50)}
    whole = zip_of(members) if name.endswith(".zip") else tar_of(members)
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:-30]):
        assert declared(sdist(tmp_path, content, name)) == Declared()
    assert declared(tmp_path / "nosuch.tar.gz") == Declared()


@given(content=st.binary(max_size=300), name=st.sampled_from(["a.tar.gz", "a.zip"]))
def test_no_bytes_make_it_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert declared(sdist(folder, content, name)) == Declared()


@given(pyproject=st.binary(max_size=200), metadata=st.binary(max_size=200))
def test_no_text_makes_it_fail(
    tmp_path_factory: pytest.TempPathFactory, pyproject: bytes, metadata: bytes
) -> None:
    members = {"demo-1.0/pyproject.toml": pyproject, "demo-1.0/PKG-INFO": metadata}
    declared(sdist(tmp_path_factory.getbasetemp(), tar_of(members)))


def test_a_job_is_what_its_sdist_and_its_recipe_say(tmp_path: Path) -> None:
    recipe = Recipe(build_constraints=["numpy<2"], needs=["numpy"])
    path = sdist(tmp_path, tar_of({"demo-1.0/pyproject.toml": PYPROJECT}))
    wanted = spec("demo", "1.0", recipe=recipe)
    assert OrderedJob.of(wanted, path) == OrderedJob(
        wanted.job_id,
        "demo",
        "1.0",
        "cp313",
        Declared(requirements("cffi>=1.15", "Cython")),
        requirements("numpy<2"),
        ("numpy",),
    )


# -- edges ----------------------------------------------------------------------------------------------

CFFI = job("cffi 2.0")


@pytest.mark.parametrize(
    ("requirement", "waits"),
    [
        ("cffi", True),
        ("CFFI>=1.15", True),
        ("cffi[extra]", True),
        ("cffi<2", False),
        ("cffi===2.0", True),
        ("other", False),
        ("cffi @ https://files.test/cffi.zip", False),
        ("cffi; platform_machine == 'riscv64' and sys_platform == 'linux'", True),
        ("cffi; platform_machine == 'x86_64'", False),
        ("cffi; sys_platform == 'win32'", False),
        ("cffi; platform_python_implementation == 'CPython'", True),
        ("cffi; python_version < '3.13'", False),
        ("cffi; python_version >= '3.13'", True),
        ("cffi; python_full_version >= '3.13.2'", True),
        ("cffi; extra == 'test'", False),
        ("cffi; sys_platform ~= '1.0'", False),
        ("cffi; python_version > '" + "9" * 5000 + "'", False),
    ],
)
def test_a_job_waits_for_what_its_build_asks_for_on_the_board(requirement: str, waits: bool) -> None:
    assert awaited(job("demo 1.0", requirement), CFFI) == ({"cffi 2.0"} if waits else set())


def test_only_jobs_of_the_same_python_are_waited_for() -> None:
    old = job("cffi 2.0", python="cp312")
    assert awaited(job("demo 1.0", "cffi"), old) == set()
    assert awaited(job("demo 1.0", "cffi", python="cp312"), old, CFFI) == {"cffi 2.0 cp312"}


def test_several_requirements_of_a_project_hold_together() -> None:
    versions = [job(f"numpy {version}") for version in ("1.26", "2.0", "2.3", "2.4rc1")]
    assert awaited(job("demo 1.0", "numpy"), *versions) == {"numpy 2.3"}, "the newest, as the build takes it"
    assert awaited(job("demo 1.0", "numpy>=1.25", "numpy<2.3"), *versions) == {"numpy 2.0"}
    assert awaited(job("demo 1.0", "numpy>=2.4rc1"), *versions) == {"numpy 2.4rc1"}
    constrained = job("demo 1.0", "numpy", constraints=("numpy<2", "other<1"))
    assert awaited(constrained, *versions) == {"numpy 1.26"}
    elsewhere = job("demo 1.0", "numpy", constraints=("numpy<2; python_version < '3.13'",))
    assert awaited(elsewhere, *versions) == {"numpy 2.3"}
    assert awaited(job("demo 1.0", "numpy>=1.25", constraints=("numpy<1.25",)), *versions) == set()


def test_jobs_that_build_the_same_version_by_two_recipes_are_both_waited_for() -> None:
    twin = OrderedJob("cffi-2.0-twin", "cffi", "2.0", "cp313")
    assert order((job("demo 1.0", "cffi"), CFFI, twin))["demo-1.0-cp313"] == {CFFI.job_id, "cffi-2.0-twin"}


def test_a_recipe_adds_edges_by_hand() -> None:
    assert awaited(job("demo 1.0", needs=("cffi", "nosuch", "demo")), CFFI) == {"cffi 2.0"}


def test_another_version_of_the_project_is_not_waited_for() -> None:
    assert awaited(job("setuptools-scm 9.0", "setuptools-scm>=8"), job("setuptools-scm 8.0")) == set()


def test_what_a_requirement_needs_at_run_time_is_waited_for_as_well() -> None:
    chain = [
        job("scipy 1.16", "pythran", run=("numpy>=1.25", "pooch; extra == 'data'")),
        job("numpy 2.3", "cython", run=("threads",)),
        job("threads 1.0"),
        job("pythran 0.18"),
        job("cython 3.1"),
        job("pooch 1.8"),
    ]
    assert awaited(job("demo 1.0", "scipy"), *chain) == {"scipy 1.16", "numpy 2.3", "threads 1.0"}
    with_extra = awaited(job("demo 1.0", "scipy[data]"), *chain)
    assert with_extra == {"scipy 1.16", "numpy 2.3", "threads 1.0", "pooch 1.8"}


def test_requirements_at_run_time_may_go_in_circles() -> None:
    circle = [job("a 1.0", run=("b",)), job("b 1.0", run=("a[x]",))]
    assert awaited(job("demo 1.0", "a"), *circle) == {"a 1.0", "b 1.0"}


def test_markers_are_about_the_board_only() -> None:
    environment = marker_environment("cp312")
    assert environment["platform_machine"] == "riscv64"
    assert environment["python_version"] == "3.12"
    assert set(environment) == set(marker_environment("cp313")) >= {"python_full_version", "sys_platform"}


NAMES = ("a", "b", "c", "d")
TEXTS = st.builds(
    "{}{}{}".format,
    st.sampled_from(NAMES),
    st.sampled_from(["", ">=2", "<2", "==1.0", "!=2.0"]),
    st.sampled_from(["", "; python_version < '3.13'", "; platform_machine != 'riscv64'"]),
)
JOBS = st.lists(
    st.builds(
        lambda title, build, run, python, limits, needs: job(
            title, *build, run=tuple(run), python=python, constraints=tuple(limits), needs=tuple(needs)
        ),
        st.builds("{} {}".format, st.sampled_from(NAMES), st.sampled_from(["1.0", "2.0", "3.0"])),
        st.lists(TEXTS, max_size=4),
        st.lists(TEXTS, max_size=2),
        st.sampled_from(["cp312", "cp313"]),
        st.lists(TEXTS, max_size=2),
        st.lists(st.sampled_from(NAMES), max_size=1),
    ),
    max_size=12,
    unique_by=lambda item: item.job_id,
)


@given(jobs=JOBS)
def test_edges_lead_to_other_projects_of_the_same_python(jobs: list[OrderedJob]) -> None:
    edges, known = order(jobs), {item.job_id: item for item in jobs}
    assert set(edges) == set(known)
    for job_id, others in edges.items():
        for other in others:
            assert known[other].python == known[job_id].python
            assert known[other].project != known[job_id].project


@given(jobs=JOBS)
def test_a_direct_edge_is_the_newest_version_that_fits(jobs: list[OrderedJob]) -> None:
    bare = [OrderedJob(j.job_id, j.project, j.version, j.python, Declared(j.declared.build)) for j in jobs]
    edges = order(bare)
    for one in bare:
        environment = marker_environment(one.python)
        holding = [
            item
            for item in one.declared.build
            if item.marker is None or item.marker.evaluate({**environment, "extra": ""})
        ]
        for name in {item.name for item in holding} - {one.project}:
            fits = [
                other
                for other in bare
                if (other.project, other.python) == (name, one.python)
                and all(other.version in item.specifier for item in holding if item.name == name)
            ]
            newest = {other.job_id for other in fits if other.version == max(o.version for o in fits)}
            of_project = {other.job_id for other in bare if other.project == name}
            assert edges[one.job_id] & of_project == newest


@given(jobs=JOBS, seed=st.randoms())
def test_the_order_of_the_queue_does_not_matter(jobs: list[OrderedJob], seed: object) -> None:
    edges = order(jobs)
    shuffled = list(jobs)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert order(shuffled) == edges
    assert find_cycle(order(shuffled)) == find_cycle(edges)


# -- cycles ---------------------------------------------------------------------------------------------

NODES = st.sampled_from("abcdef")


@given(edges=st.dictionaries(NODES, st.sets(NODES)))
def test_a_cycle_is_found_where_there_is_one(edges: dict[str, set[str]]) -> None:
    path = find_cycle(edges)
    if path is None:
        left = {name: set(others) for name, others in edges.items()}
        while left:  # what needs nothing that is left can be built
            free = [name for name, others in left.items() if not others & set(left)]
            assert free
            for name in free:
                del left[name]
    else:
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1
        assert all(other in edges[name] for name, other in pairwise(path))


def test_a_cycle_names_its_path() -> None:
    jobs = [job("a 1.0", "b"), job("b 2.0", "c>=3"), job("c 3.0", "a"), job("d 1.0", "a")]
    with pytest.raises(CycleError) as caught:
        refuse_cycle(jobs, order(jobs))
    path = caught.value.path
    assert path[0] == path[-1]
    assert caught.value.message == " needs ".join(path)
    assert caught.value.message in {
        "a 1.0 needs b 2.0 needs c 3.0 needs a 1.0",
        "b 2.0 needs c 3.0 needs a 1.0 needs b 2.0",
        "c 3.0 needs a 1.0 needs b 2.0 needs c 3.0",
    }
    assert "build_constraints in recipes/" in caught.value.hint
    assert isinstance(caught.value, InputError)
    assert caught.value.exit_code is ExitCode.INPUT


def test_a_cycle_by_hand_names_the_recipe() -> None:
    jobs = [job("a 1.0", "b"), job("b 2.0", needs=("a",))]
    with pytest.raises(CycleError) as caught:
        refuse_cycle(jobs, order(jobs))
    assert caught.value.hint == "take it out of `needs` in recipes/b.yml"


def test_what_has_no_cycle_is_let_through() -> None:
    jobs = [job("a 1.0", "b"), job("b 2.0")]
    refuse_cycle(jobs, order(jobs))


# -- what is installed with a wheel ---------------------------------------------------------------------
