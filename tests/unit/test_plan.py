from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from farm.errors import InputError, UpstreamError
from farm.plan import JobSpec, Python, Reason, choose, job_spec, parse_requirements
from farm.recipe import DEFAULT, Recipe, SourceArchive
from tests.unit.plankit import CP313, choice, offered, project, spec

SDIST = "demo-1.0.tar.gz"
X86 = "demo-1.0-cp313-cp313-manylinux_2_28_x86_64.whl"


@pytest.mark.parametrize("tags", ["py3-none-any", "py2.py3-none-any", "py38-none-any", "cp313-none-any"])
@pytest.mark.parametrize("force", [False, True])
def test_f26_pure_project_is_never_built(tags: str, force: bool) -> None:
    found = choice("demo", SDIST, f"demo-1.0-{tags}.whl", force=force)
    assert (found.build, found.reason) == (False, Reason.PURE)


@pytest.mark.parametrize("tags", ["py2-none-any", "cp312-none-any", "py314-none-any"])
def test_a_pure_wheel_for_another_python_does_not_count(tags: str) -> None:
    assert choice("demo", SDIST, f"demo-1.0-{tags}.whl").build


def test_a_pure_wheel_of_another_version_does_not_count() -> None:
    assert choice("demo", SDIST, "demo-0.9-py3-none-any.whl").build


@pytest.mark.parametrize(
    "tags",
    [
        "cp313-cp313-manylinux_2_39_riscv64",
        "cp38-abi3-manylinux_2_31_riscv64",
        "cp313-abi3-linux_riscv64",
        "py3-none-manylinux_2_35_riscv64",
        "cp313-cp313-manylinux_2_31_riscv64.manylinux_2_35_riscv64",
    ],
)
def test_upstream_riscv64_wheel_is_not_built_unless_forced(tags: str) -> None:
    files = (SDIST, X86, f"demo-1.0-{tags}.whl")
    skipped = choice("demo", *files)
    assert (skipped.build, skipped.reason) == (False, Reason.UPSTREAM_RISCV64)
    forced = choice("demo", *files, force=True)
    assert (forced.build, forced.reason) == (True, Reason.FORCED)


@pytest.mark.parametrize(
    "tags",
    [
        "cp312-cp312-manylinux_2_39_riscv64",
        "cp313-cp313t-manylinux_2_39_riscv64",
        "cp314-abi3-manylinux_2_39_riscv64",
        "cp313-cp313-musllinux_1_2_riscv64",
        "cp313-cp313-manylinux_2_28_x86_64",
        "cp313-cp313-manylinux_2_39_riscv32",
    ],
)
def test_what_does_not_run_here_does_not_count(tags: str) -> None:
    found = choice("demo", SDIST, f"demo-1.0-{tags}.whl")
    assert (found.build, found.reason) == (True, Reason.NO_RISCV64_WHEEL)


def test_f27_names_are_normalised() -> None:
    upstream = project("Ruamel_Yaml.Clib-1.0.tar.gz", name="ruamel-yaml-clib")
    found = choose(Requirement("Ruamel.YAML_clib"), upstream, CP313)
    assert found.project == "ruamel-yaml-clib"
    assert job_spec(found, DEFAULT).job_id.startswith("ruamel-yaml-clib-1.0-cp313-")


def test_the_newest_final_version_is_taken() -> None:
    found = choice(
        "demo", "demo-1.9.tar.gz", "demo-1.10.tar.gz", "demo-2.0rc1.tar.gz", "demo-2.0.dev3.tar.gz"
    )
    assert str(found.version) == "1.10"
    assert found.sdist is not None
    assert found.sdist.filename == "demo-1.10.tar.gz"


def test_a_prerelease_is_taken_when_asked_for() -> None:
    assert str(choice("demo==2.0rc1", SDIST, "demo-2.0rc1.tar.gz").version) == "2.0rc1"


def test_yanked_only_when_pinned() -> None:
    files = (SDIST, offered("demo-1.1.tar.gz", yanked=True))
    assert str(choice("demo", *files).version) == "1.0"
    assert str(choice("demo>=1", *files).version) == "1.0"
    assert str(choice("demo==1.*", *files).version) == "1.0"
    assert str(choice("demo==1.1", *files).version) == "1.1"


def test_requires_python_limits_the_versions() -> None:
    files = (SDIST, offered("demo-2.0.tar.gz", requires_python=">=3.14"))
    assert str(choice("demo", *files).version) == "1.0"
    assert str(choice("demo", *files, python=Python("cp314")).version) == "2.0"
    # The board's patch level is never the obstacle, and nonsense is no limit (as for pip).
    assert choice("demo", offered(SDIST, requires_python=">=3.13.2")).build
    assert choice("demo", offered(SDIST, requires_python="about 3")).build


@pytest.mark.parametrize(
    ("wanted", "files", "message", "hint"),
    [
        ("demo==3", [SDIST], "no version on the index fits", "the newest one is 1.0"),
        ("demo", [], "no version on the index fits", "no usable release"),
        ("demo", [offered(SDIST, requires_python="<3")], "Python 3.13", "no usable release"),
        ("demo", [X86], "no sdist", "ask for a version that has one"),
    ],
)
def test_what_can_not_be_built_is_an_upstream_error(
    wanted: str, files: list[str], message: str, hint: str
) -> None:
    with pytest.raises(UpstreamError, match=message) as caught:
        choice(wanted, *files)
    assert hint in caught.value.hint


def test_a_recipe_says_where_sources_are_and_its_word_counts() -> None:
    archive = SourceArchive(url="https://x.test/src/Demo-v1.0.tar.gz", sha256="cd" * 32)
    for files in ([X86], [X86, SDIST]):
        upstream = project(*files).with_sdists({"1.0": archive, "0.9": archive})
        found = choose(Requirement("demo"), upstream, CP313)
        job = job_spec(found, DEFAULT)
        assert (job.sdist_filename, job.sdist_url) == ("Demo-v1.0.tar.gz", archive.url)
        assert job.sdist_sha256 == "cd" * 32
        assert str(choose(Requirement("demo==0.9"), upstream, CP313).version) == "0.9"


def test_a_recipe_s_source_makes_no_pure_project_native() -> None:
    archive = SourceArchive(url="https://x.test/demo.zip", sha256="cd" * 32)
    upstream = project("demo-1.0-py3-none-any.whl").with_sdists({"1.0": archive})
    assert choose(Requirement("demo"), upstream, CP313).reason is Reason.PURE


def test_an_sdist_without_hash_is_refused() -> None:
    with pytest.raises(UpstreamError, match="no sha256"):
        job_spec(choice("demo", offered(SDIST, sha256=None)), DEFAULT)


@pytest.mark.parametrize(
    "text", ["a b", "demo @ https://x.test/d.tar.gz", "demo[extra]", "demo; os_name=='x'"]
)
def test_only_names_and_versions_may_be_asked_for(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_requirements(["fine", text])
    assert "NAME" in caught.value.hint or "demo" in caught.value.hint


def test_requirements() -> None:
    names = [str(item) for item in parse_requirements(["pyyaml", "msgspec==0.21.0", "a>=1,<2"])]
    assert names == ["pyyaml", "msgspec==0.21.0", "a<2,>=1"]


@pytest.mark.parametrize("text", ["3.13", "cp313"])
def test_python(text: str) -> None:
    python = Python.parse(text)
    assert (python.tag, python.version) == ("cp313", "3.13")


@pytest.mark.parametrize("text", ["", "3", "2.7", "cp3", "pp311", "3.13t", "3.x", "3.13.7", "31.3", "cp3.13"])
def test_no_python(text: str) -> None:
    with pytest.raises(InputError, match="not a CPython version"):
        Python.parse(text)


WORD = st.text("abcdef0123456789", min_size=1, max_size=8)


@given(data=st.data(), field=st.sampled_from(["project", "version", "python", "sdist_sha256", "recipe"]))
def test_the_digest_changes_with_each_input(data: st.DataObject, field: str) -> None:
    one = spec()
    value: object = (
        Recipe(timeout_s=data.draw(st.integers(1, 9))) if field == "recipe" else data.draw(WORD, label=field)
    )
    other: JobSpec = replace(one, **{field: value})  # type: ignore[arg-type]
    assert other.digest != one.digest
    assert other.job_id != one.job_id


@given(WORD)
def test_where_the_sdist_came_from_does_not_change_the_digest(word: str) -> None:
    assert replace(spec(), sdist_url=f"https://mirror.test/{word}").digest == spec().digest


@given(WORD, WORD, WORD, WORD)
def test_no_two_jobs_share_a_digest_by_concatenation(a: str, b: str, c: str, d: str) -> None:
    assert (spec(a, b).digest == spec(c, d).digest) == ((a, b) == (c, d))
