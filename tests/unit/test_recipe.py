from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import InputError
from farm.paths import REPOSITORY
from farm.recipe import DEFAULT, Recipe, load_recipe, parse_recipe

PATH = Path("recipes/demo.yml")


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("---\nreason: x\nconstraints: [a]\n", "recipes/demo.yml:3: constraints", "not permitted"),
        ("native: yes please\n", "recipes/demo.yml:1: native", "valid boolean"),
        ("reason: x\ntimeout_s: 0\n", "recipes/demo.yml:2: timeout_s", "greater than 0"),
        ("timeout_s: '60'\n", "recipes/demo.yml:1: timeout_s", "valid integer"),
        ("environment:\n  CFLAGS: 1\n", "recipes/demo.yml:1: environment", "valid string"),
        ("apt_packages: [libffi-dev, '-y']\n", "recipes/demo.yml:1: apt_packages", "pattern"),
        ("apt_packages: ['a b']\n", "recipes/demo.yml:1: apt_packages", "pattern"),
        ("build_constraints: ['setuptools <<82']\n", ":1: build_constraints", "not a PEP 508 requirement"),
        ("apt_packages: libffi-dev\n", "recipes/demo.yml:1: apt_packages", "valid list"),
        ("reason: x\napt_packages: [a\n", "recipes/demo.yml:3:", "not valid YAML"),
        ("- a\n- b\n", "recipes/demo.yml:1:", "a recipe is a mapping"),
        ("reason: !!python/object:os.system {}\n", "recipes/demo.yml:1:", "not valid YAML"),
        ("1: x\n", "recipes/demo.yml:1:", ""),
        ("reason: x\nnative: true\nnative: false\n", "recipes/demo.yml:3:", "native: given twice"),
    ],
)
def test_a_wrong_recipe_is_refused_with_file_and_line(text: str, where: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_recipe(text, PATH)
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


@given(reason=st.text(), other=st.text())
def test_the_reason_is_no_part_of_the_digest(reason: str, other: str) -> None:
    one, two = Recipe(reason=reason, native=False), Recipe(reason=other, native=False)
    assert one.digest() == two.digest() != DEFAULT.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"apt_packages": ["libffi-dev"]},
        {"build_constraints": ["setuptools<82"]},
        {"environment": {"CFLAGS": "-O1"}},
        {"native": False},
        {"timeout_s": 60},
        {"debug": True},
    ],
)
def test_all_else_changes_the_digest(change: dict[str, object]) -> None:
    assert set(Recipe.model_fields) == {
        "apt_packages",
        "build_constraints",
        "debug",
        "environment",
        "native",
        "timeout_s",
        "reason",
    }, "a new field: add it here, or to digest()'s exclusions"
    assert Recipe.model_validate(change).digest() != DEFAULT.digest()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").iterdir()), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_loads(path: Path) -> None:
    assert path.suffix == ".yml"
    recipe = load_recipe(path.parent, path.stem)
    assert path == path.parent / f"{path.stem.lower().replace('_', '-')}.yml"
    assert recipe.reason, "say why the recipe exists"
    assert recipe.digest() != DEFAULT.digest()
