"""A build, from the provenance that it left: all that another one needs."""

from __future__ import annotations

import pytest

from farm.errors import WheelError
from farm.plan import JobSpec
from farm.provenance.check import check_provenance
from farm.provenance.stated import StatedBuild, stated_build
from farm.recipe import Recipe
from tests.unit.plankit import spec
from tests.unit.provenance.kit import KEY, SHA256, built, said, signed
from tests.unit.verify.wheelkit import NATIVE

RECIPE = Recipe(
    apt_packages=["libyaml-dev"],
    build_constraints=["cython<4"],
    environment={"CFLAGS": "-O1"},
    system_libraries={"libfoo.so.1": "the user's own"},
    timeout_s=60,
)


def stated(job: JobSpec, **changes: object) -> StatedBuild:
    content = said(built(job))
    definition = content["predicate"]["buildDefinition"]  # type: ignore[index]
    for path, value in changes.items():
        part, _, name = path.partition("__")
        definition[part][name] = value
    held = check_provenance(signed(content=content), NATIVE, SHA256, [KEY.public_key()])
    return stated_build(held, NATIVE)


@pytest.mark.parametrize("recipe", [Recipe(), RECIPE])
def test_what_was_built_is_stated_whole(recipe: Recipe) -> None:
    job = spec(recipe=recipe)
    found = stated(job)
    assert found.spec == job
    assert found.spec.job_id == job.job_id
    assert (found.node, found.attempt) == ("f3", 1)
    first = built(job).record
    assert found.record == first.model_copy(update={"grafted": [], "crates": []})
    assert found.record.environment == ["setuptools==80.9.0", "cython==3.1.2"]


@pytest.mark.parametrize("environment", [{"API_TOKEN": "x"}, {"INDEX": "https://me:pw@example.org/"}])
def test_a_recipe_with_a_secret_is_not_guessed(environment: dict[str, str]) -> None:
    with pytest.raises(WheelError, match="what looks like a secret is left out") as caught:
        stated(spec(recipe=Recipe(environment=environment)))
    assert "farm status" in caught.value.hint


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("externalParameters__project", "../demo"),
        ("externalParameters__python", "cp313/.."),
        ("externalParameters__sdist", {"filename": "../x.tar.gz", "url": "", "sha256": "ab" * 32}),
        ("externalParameters__recipe", {"of_a_later_farm": True}),
        ("internalParameters__width", 0),
        ("internalParameters__compiler", "gcc"),
    ],
)
def test_another_form_is_refused(path: str, value: object) -> None:
    with pytest.raises(WheelError, match="its provenance is of another form: buildDefinition") as caught:
        stated(spec(), **{path: value})
    assert caught.value.hint
