from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from farm.node.places import Places, wrap_ninja
from farm.node.tokens import MAKE, Tokens, at_least
from farm.node.variables import FIXED, TELLING, uses_download_cache, variables

PLACES = Places(Path("/node/work/demo-cp313"), Path("/node/cache/demo"), Path("/opt/tools"))


def made(
    *,
    debug: bool = False,
    distcc: str = "",
    constraints: Path | None = None,
    jobserver: bool = True,
    **own: str,
) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        tokens = Tokens(Path(folder), 3)
        tokens.close()
        return variables(
            PLACES,
            width=3,
            cores=8,
            tokens=tokens,
            jobserver=jobserver,
            epoch=1,
            debug=debug,
            constraints=constraints,
            distcc_hosts=distcc,
            own=own,
        )


def test_f13_nothing_is_said_by_cflags_which_setuptools_84_takes_for_all_flags() -> None:
    assert not {"CFLAGS", "CXXFLAGS", "LDFLAGS"} & set(made())


@pytest.mark.parametrize(("debug", "flag"), [(False, "-g0"), (True, "-g")])
def test_debug_information_is_a_matter_of_the_wrapper_s_flags(debug: bool, flag: str) -> None:
    assert flag in made(debug=debug)["FARM_CC_FLAGS"].split()


def test_no_cache_lies_where_another_project_s_build_would_look() -> None:
    own = made()
    for name in ("UV_CACHE_DIR", "CARGO_HOME"):
        assert Path(own[name]).is_relative_to(PLACES.cache)
    shared = [value for name, value in own.items() if name.endswith(("CACHE_DIR", "CCACHE_DIR"))]
    assert all(Path(value).is_relative_to(PLACES.cache) for value in shared)


def test_compilers_are_wrapped_in_every_environment() -> None:
    for path in (made()["PATH"], PLACES.search_path(Path("/env"))):
        assert path.startswith(f"{PLACES.wrappers}:")


def test_helpers_get_what_would_be_compiled_here() -> None:
    assert "-no-integrated-cpp" not in made()["FARM_CC_FLAGS"]
    assert "-no-integrated-cpp" in made(distcc="192.0.2.40:3632/8,lzo")["FARM_CC_FLAGS"]


def test_f13_limits_reach_uv_and_pip_and_a_recipe_has_the_last_word() -> None:
    own = made(constraints=Path("/c.txt"), TZ="Asia/Shanghai")
    limits = {own[name] for name in ("UV_BUILD_CONSTRAINT", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")}
    assert limits == {"/c.txt"}
    assert own["TZ"] == "Asia/Shanghai"


def test_the_download_cache_is_for_pip_uv_and_cargo_alike_and_can_end(tmp_path: Path) -> None:
    own = uses_download_cache("http://192.0.2.30:8081", tmp_path / "cargo")
    assert own["UV_DEFAULT_INDEX"] == own["PIP_INDEX_URL"] == "http://192.0.2.30:8081/pypi/simple/"
    assert own["PIP_TRUSTED_HOST"] == "192.0.2.30:8081"
    setting = tmp_path / "cargo/config.toml"
    assert "sparse+http://192.0.2.30:8081/crates/index/" in setting.read_text()
    assert uses_download_cache("", tmp_path / "cargo") == {}
    assert setting.read_text() == ""


def test_what_a_build_left_in_the_place_of_a_setting_leads_nowhere(tmp_path: Path) -> None:
    cargo, key = tmp_path / "cargo", tmp_path / "key"
    cargo.mkdir()
    key.write_text("a key")
    (cargo / "config.toml").symlink_to(key)
    (cargo / "config").write_text("[build]\nrustc = 'evil'")
    uses_download_cache("http://192.0.2.30:8081", cargo)
    assert key.read_text() == "a key"
    assert sorted(path.name for path in cargo.iterdir()) == ["config.toml"]
    (cargo / "config.toml").unlink()
    (cargo / "config.toml").mkdir()
    uses_download_cache("", cargo)
    assert (cargo / "config.toml").read_text() == ""


def test_of_the_session_only_what_a_build_needs_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("QEMU_CPU", "rv64")
    own = made()
    assert own["QEMU_CPU"] == "rv64"
    assert not own.keys() & {"AWS_SECRET_ACCESS_KEY", "XDG_RUNTIME_DIR"}


def test_what_a_login_brings_does_not_change_what_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = ("CFLAGS", "CC", "PYTHONPATH", "LD_PRELOAD", "LC_TIME", "CMAKE_GENERATOR", "C_INCLUDE_PATH")
    for name in foreign:
        monkeypatch.setenv(name, "outside")
    own = made()
    assert not {name for name in foreign if own.get(name) == "outside"}
    assert (own["LC_ALL"], own["TZ"], own["PYTHONHASHSEED"]) == ("C.UTF-8", "UTC", "0")


def test_ninja_is_wrapped_only_where_a_build_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = replace(PLACES, work=tmp_path)
    places.wrappers.mkdir()
    ninja = tmp_path / "environment/bin/ninja"
    ninja.parent.mkdir(parents=True)
    ninja.write_text("#!/bin/sh\n")
    ninja.chmod(0o755)
    for _ in range(2):
        found = wrap_ninja(places, tmp_path / "environment", 3, jobserver=True)
        assert found["FARM_NINJA"] == str(ninja)
        assert (places.wrappers / "ninja").exists()
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert wrap_ninja(places, tmp_path / "other", 3, jobserver=True) == {}
    assert not (places.wrappers / "ninja").is_symlink(), "a project that looks for it must not find it"


@pytest.mark.parametrize(
    ("version", "jobserver", "told"),
    [("1.13.0", True, ""), ("1.12.1", True, "-j3"), ("1.13.0", False, "-j3"), (None, True, "-j3")],
)
def test_a_ninja_that_knows_no_jobserver_is_told_the_width(
    tmp_path: Path, version: str | None, told: str, *, jobserver: bool
) -> None:
    places, environment = replace(PLACES, work=tmp_path), tmp_path / "environment"
    for folder in (places.wrappers, environment / "bin"):
        folder.mkdir(parents=True)
    # It is not run: strangers made it, and this is not in the sandbox.
    (environment / "bin/ninja").write_text("#!/bin/sh\nexit 1\n")
    (environment / "bin/ninja").chmod(0o755)
    if version:
        (environment / f"lib/python3.13/site-packages/ninja-{version}.dist-info").mkdir(parents=True)
    assert wrap_ninja(places, environment, 3, jobserver=jobserver)["FARM_NINJA_JOBS"] == told


def test_who_knows_tokens_gets_tokens_and_others_are_told_the_width() -> None:
    new, old = made(), made(jobserver=False)
    assert all(own[name] == "3" for own in (new, old) for name in FIXED)
    # Told a number, CMake would tell it make, and a build could not be widened.
    assert not new.keys() & set(TELLING)
    assert {old[name] for name in TELLING} == {"3"}
    assert "--jobserver-auth=fifo:/" in new["MAKEFLAGS"]
    assert old["MAKEFLAGS"] == "-j3"
    assert "--jobserver-auth=fifo:/" in old["CARGO_MAKEFLAGS"]


@pytest.mark.parametrize(
    ("said", "new"),
    [("GNU Make 4.4.1", True), ("GNU Make 4.3", False), ("GNU Make 5.0", True), ("4.10", True), ("", False)],
)
def test_only_a_make_that_understands_pipes_is_given_one(said: str, *, new: bool) -> None:
    assert at_least(MAKE, said) == new
