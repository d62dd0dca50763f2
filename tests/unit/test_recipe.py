from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from farm.errors import InputError
from farm.paths import REPOSITORY
from farm.recipe import DEFAULT, DEFAULTS, Recipe
from farm.recipe import UNBUILT as NOT_BUILT
from farm.recipe_file import checked, load_recipe, parse_recipe

PATH = Path("recipes/demo.yml")
KNOWN = "test_command: pytest\nknown_failures:\n"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("---\nreason: x\nconstraints: [a]\n", "recipes/demo.yml:3: constraints", "not permitted"),
        ("native: yes please\n", "recipes/demo.yml:1: native", "valid boolean"),
        ("reason: x\ntimeout_s: 0\n", "recipes/demo.yml:2: timeout_s", "greater than 0"),
        ("timeout_s: '60'\n", "recipes/demo.yml:1: timeout_s", "valid integer"),
        ("environment:\n  CFLAGS: 1\n", "recipes/demo.yml:2: environment.CFLAGS", "valid string"),
        ("apt_packages: [libffi-dev, '-y']\n", "recipes/demo.yml:1: apt_packages", "pattern"),
        ("apt_packages: ['a b']\n", "recipes/demo.yml:1: apt_packages", "pattern"),
        ("build_constraints: ['setuptools <<82']\n", ":1: build_constraints", "not a PEP 508 requirement"),
        ("apt_packages: libffi-dev\n", "recipes/demo.yml:1: apt_packages", "valid list"),
        ("reason: x\napt_packages: [a\n", "recipes/demo.yml:3:", "not valid YAML"),
        ("- a\n- b\n", "recipes/demo.yml:1:", "a recipe is a mapping"),
        ("reason: !!python/object:os.system {}\n", "recipes/demo.yml:1:", "not valid YAML"),
        ("1: x\n", "recipes/demo.yml:1:", ""),
        ("reason: x\nnative: true\nnative: false\n", "recipes/demo.yml:3:", "native: given twice"),
        ("reason: x\nnodes: f3\n", "recipes/demo.yml:2: nodes", "valid list"),
        ("reason: x\nnodes: [f3, '']\n", "recipes/demo.yml:2: nodes", "pattern"),
        ("exclude_nodes: ['a b']\n", "recipes/demo.yml:1: exclude_nodes", "pattern"),
        ("nodes: [a, b]\nreason: x\nexclude_nodes: [c, b]\n", ":3: exclude_nodes", "b: in nodes as well"),
        ("exclude_nodes: [b]\nreason: x\nnodes: [b]\n", ":1: exclude_nodes", "b: in nodes as well"),
        ("features: [RVV 1.0]\n", "recipes/demo.yml:1: features", "pattern"),
        ("needs: ['numpy>=2']\n", "recipes/demo.yml:1: needs", "not a project's name: 'numpy>=2'"),
        ("memory_mib: 0\n", "recipes/demo.yml:1: memory_mib", "greater than 0"),
        ("memory_mib: true\n", "recipes/demo.yml:1: memory_mib", "valid integer"),
        ("runtime_guarded: [demo/x.so]\n", "recipes/demo.yml:1: runtime_guarded", "valid dict"),
        ("runtime_guarded: {demo/x.so: ''}\n", "recipes/demo.yml:1: runtime_guarded", "at least 1 character"),
        ("runtime_guarded: {/x.so: why}\n", "recipes/demo.yml:1: runtime_guarded", "pattern"),
        ("memory_mib_per_task: 1.5\n", "recipes/demo.yml:1: memory_mib_per_task", "valid integer"),
        ("test_command: make && make test\n", ":1: test_command", "no shell runs it, so '&&'"),
        ("test_command: pytest > log\n", ":1: test_command", "no shell runs it, so '>'"),
        ("test_command: pytest 'x\n", ":1: test_command", "no closing quotation"),
        ("test_command: 7\n", ":1: test_command", "valid list"),
        ("test_requires: ['pytest <<9']\n", ":1: test_requires", "not a PEP 508 requirement"),
        ("test_timeout_s: 0\n", ":1: test_timeout_s", "greater than 0"),
        (
            "known_failures: [{tests: [a], reason: b}]\n",
            ":1: known_failures",
            "only pytest can leave tests out",
        ),
        (f"{KNOWN}- {{tests: [a], reason: ' '}}\n", ":3: known_failures.reason", "at least 1 character"),
        (f"{KNOWN}- reason: b\n  tests: []\n", ":4: known_failures.tests", "at least 1 item"),
        (f"{KNOWN}- tests: [a]\n  reason: b\n  versions: 2\n", ":5: known_failures.versions", "valid string"),
        (f"{KNOWN}- tests: [a]\n  reason: b\n  versions: two\n", ":5: known_failures", "not a PEP 440 spec"),
        (f"{KNOWN}- tests: [a]\n", ":3: known_failures.reason", "Field required"),
        (f"{KNOWN}- {{tests: [a], reason: b, why: c}}\n", ":3: known_failures.why", "not permitted"),
        ("test_command: pytest\nknown_failures: {a: b}\n", ":2: known_failures", "valid list"),
        ("test_sources: [tests]\n", ":1: test_sources", "no test_command"),
        ("test_command: pytest\ntest_sources: tests\n", ":2: test_sources", "valid list"),
        ("test_command: pytest\ntest_sources:\n- tests\n- ../x\n", ":4: test_sources", "inside of the sdist"),
        ("test_command: pytest\ntest_sources: [/etc]\n", ":2: test_sources", "inside of the sdist"),
        ("test_command: pytest\ntest_sources: [.]\n", ":2: test_sources", "inside of the sdist"),
        ("system_libraries: {libx: why}\n", ":1: system_libraries", "pattern"),
        ("system_libraries: {libx.so.*: why}\n", ":1: system_libraries", "pattern"),
        ("system_libraries: {/usr/lib/libx.so: why}\n", ":1: system_libraries", "pattern"),
        ("libraries_of: {torch: []}\n", ":1: libraries_of", "at least 1 item"),
        ("libraries_of: {a: [libx.so], b: [libx.so]}\n", ":1: libraries_of", "libx.so: from one project"),
        ("system_libraries: {x.so: y}\nlibraries_of: {a: [x.so]}\n", ":2: libraries_of", "x.so: from one"),
        ("sdists: {'1.0': {url: 'https://x.test/a.zip', sha256: AB}}\n", ":1: sdists", "pattern"),
        ("sdists: {'1.0': {url: 'file:///etc/a.zip', sha256: HASH}}\n", ":1: sdists", "pattern"),
        ("sdists: {'1.0': {url: 'https://x.test/-a.zip', sha256: HASH}}\n", ":1: sdists", "pattern"),
        ("sdists: {'1.0': {url: 'https://x.test/a.git', sha256: HASH}}\n", ":1: sdists", "pattern"),
        ("sdists: {one: {url: 'https://x.test/a.zip', sha256: HASH}}\n", ":1: sdists", "not a version"),
        ("sdists: {1.0: {url: 'https://x.test/a.zip', sha256: HASH}}\n", ":1: sdists", "valid string"),
        ("import_skip: [a]\n", ":1: import_skip", "valid dictionary"),
        ("import_skip: {a b: x}\n", ":1: import_skip", "pattern"),
    ],
)
def test_a_wrong_recipe_is_refused_with_file_and_line(text: str, where: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_recipe(text.replace("HASH", "ab" * 32), PATH)
    assert where in caught.value.message
    assert what in caught.value.message
    assert "\n" not in caught.value.message


def test_an_unknown_key_gets_the_known_ones_as_hint() -> None:
    with pytest.raises(InputError) as caught:
        parse_recipe("constraint: [a]", PATH)
    assert "build_constraints" in caught.value.hint


def test_no_file_or_an_empty_one_is_the_default(tmp_path: Path) -> None:
    assert load_recipe(tmp_path, "demo") == DEFAULT
    (tmp_path / "demo.yml").write_text("---\n")
    assert load_recipe(tmp_path, "demo") == DEFAULT


def test_f27_a_recipe_is_found_under_the_normalised_name(tmp_path: Path) -> None:
    (tmp_path / "ruamel-yaml-clib.yml").write_text("native: false\n")
    assert not load_recipe(tmp_path, "Ruamel.YAML_clib").native


def test_a_recipe_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo.yml").write_bytes(b"reason: caf\xe9\n")
    with pytest.raises(InputError, match="UTF-8"):
        load_recipe(tmp_path, "demo")


def test_constraints_are_normalised() -> None:
    one = parse_recipe("build_constraints: ['setuptools<82']", PATH)
    assert one.build_constraints == ["setuptools<82"]
    assert one == parse_recipe("build_constraints: ['setuptools < 82']", PATH)


def test_f27_needed_projects_are_named_as_in_pep_503() -> None:
    assert parse_recipe("needs: [Ruamel.YAML_clib, numpy]", PATH).needs == ["ruamel-yaml-clib", "numpy"]


def test_where_it_is_built_is_read() -> None:
    recipe = parse_recipe(
        "nodes: [f3-1, f3-2]\nexclude_nodes: [sg2044-1]\nfeatures: [rvv]\nmemory_mib: 4096\n"
        "memory_mib_per_task: 1500\n",
        PATH,
    )
    assert (recipe.nodes, recipe.exclude_nodes) == (["f3-1", "f3-2"], ["sg2044-1"])
    assert (recipe.features, recipe.memory_mib, recipe.memory_mib_per_task) == (["rvv"], 4096, 1500)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "python -m pytest --pyargs demo -k 'not slow'",
            ["python", "-m", "pytest", "--pyargs", "demo", "-k", "not slow"],
        ),
        ("[python, -c, import demo; demo.test()]", ["python", "-c", "import demo; demo.test()"]),
        ("python -c 'import demo; demo.test() > 1'", ["python", "-c", "import demo; demo.test() > 1"]),
        ("tool $HOME *.py #1", ["tool", "$HOME", "*.py"]),  # YAML's comment, and nothing expanded
    ],
)
def test_a_test_command_is_split_as_a_shell_does_and_no_more(text: str, words: list[str]) -> None:
    assert parse_recipe(f"test_command: {text}", PATH).test_command == words


@pytest.mark.parametrize("command", ["pytest -q", "python -m pytest", "python -X dev -m pytest x"])
def test_f16_known_failures_are_for_pytest(command: str) -> None:
    older = "{versions: '<2', tests: [t.py::x, t.py::y], reason: flaky}"
    known = f"known_failures: [{older}, {{tests: [z], reason: gone}}]"
    recipe = parse_recipe(f"{known}\ntest_command: {command}\ntest_sources: [tests/, ./conftest.py]", PATH)
    assert recipe.test_sources == ["tests", "conftest.py"]
    assert recipe.left_out(Version("2.0")) == {"z": "gone"}
    assert recipe.left_out(Version("2.0rc1")) == {"z": "gone"}
    assert recipe.left_out(Version("1.9")) == {"t.py::x": "flaky", "t.py::y": "flaky", "z": "gone"}
    assert recipe.digest() == DEFAULT.digest()


UNBUILT: dict[str, object] = {
    # A job has the hash of its source by itself.
    "sdists": {"1.0": {"url": "https://x.test/demo-v1.tar.gz", "sha256": "ab" * 32}},
    "test_command": ["pytest"],
    "test_requires": ["pytest"],
    "test_timeout_s": 1,
    "import_skip": {"demo.gui": "needs a display"},
    "nodes": ["f3"],
    "exclude_nodes": ["f3"],
    "features": ["rvv"],
    "needs": ["numpy"],
    "memory_mib": 1,
    "memory_mib_per_task": 1,
    "runtime_guarded": {"demo/*.so": "picked by getauxval"},
    "keep_files": {"demo/*.a": "others link it"},
    "no_licence": "it is in the README",
}


@pytest.mark.parametrize("key", sorted(UNBUILT))
def test_what_does_not_change_the_wheel_is_no_part_of_the_digest(key: str) -> None:
    recipe = checked({key: UNBUILT[key]})
    assert recipe != DEFAULT
    assert recipe.digest() == DEFAULT.digest()


@given(reason=st.text(), other=st.text())
def test_the_reason_is_no_part_of_the_digest(reason: str, other: str) -> None:
    one, two = Recipe(reason=reason, native=False), Recipe(reason=other, native=False)
    assert one.digest() == two.digest() != DEFAULT.digest()


def test_a_key_at_its_default_changes_no_digest() -> None:
    stated = checked(asdict(DEFAULT))
    assert stated.digest() == DEFAULT.digest()
    one = {"environment": {"A": "1"}}
    assert checked({**one, "debug": False}).digest() == checked(one).digest()


def test_who_changes_a_default_raises_the_count() -> None:
    """Else farms would believe that they have built already what is now built otherwise."""
    built = {name: value for name, value in asdict(DEFAULT).items() if name not in NOT_BUILT}
    assert (DEFAULTS, built) == (
        1,
        {
            "apt_packages": [],
            "build_constraints": [],
            "environment": {},
            "native": True,
            "debug": False,
            "timeout_s": 14400,
            "build_network": "",
            "system_libraries": {},
            "libraries_of": {},
        },
    )


@pytest.mark.parametrize(
    "change",
    [
        {"apt_packages": ["libffi-dev"]},
        {"build_constraints": ["setuptools<82"]},
        {"environment": {"CFLAGS": "-O1"}},
        {"native": False},
        {"timeout_s": 60},
        {"debug": True},
        {"build_network": "its tests fetch data"},
        {"system_libraries": {"libvulkan.so.1": "it comes with the driver"}},
        {"libraries_of": {"torch": ["libtorch.so", "libc10.so"]}},
    ],
)
def test_all_else_changes_the_digest(change: dict[str, object]) -> None:
    assert set(asdict(DEFAULT)) == {
        "apt_packages",
        "build_constraints",
        "build_network",
        "sdists",
        "system_libraries",
        "libraries_of",
        "debug",
        "environment",
        "native",
        "timeout_s",
        "reason",
        "known_failures",
        "test_sources",
        *UNBUILT,
    }, "a new field: add it here, or to UNBUILT"
    assert checked(change).digest() != DEFAULT.digest()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").iterdir()), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_loads(path: Path) -> None:
    assert path.suffix == ".yml"
    recipe = load_recipe(path.parent, path.stem)
    assert path == path.parent / f"{path.stem.lower().replace('_', '-')}.yml"
    assert recipe.reason, "say why the recipe exists"
    assert replace(recipe, reason="") != DEFAULT
