from __future__ import annotations

import json
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st

from farm.provenance.sbom import bill_of_materials
from tests.unit.provenance.kit import CRATE, LIBRARY, SHA256, built

VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)


def bill(**changes: object) -> dict[str, Any]:
    text = bill_of_materials(built(None, **changes), "MIT", "1.2")
    assert VALIDATOR.validate_str(text) is None
    content: dict[str, Any] = json.loads(text)
    return content


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in component["properties"]}


def test_the_bill_is_valid_and_lists_wheel_sdist_grafted_crates_and_build_environment() -> None:
    content = bill()
    assert content["specVersion"] == "1.6"
    wheel = content["metadata"]["component"]
    assert wheel["hashes"] == [{"alg": "SHA-256", "content": SHA256}]
    assert wheel["licenses"] == [{"license": {"name": "MIT"}}]
    assert wheel["pedigree"]["ancestors"][0]["hashes"][0]["content"] == "ab" * 32
    parts = {item["name"]: item for item in content["components"]}
    assert set(parts) == {"libyaml-0-2", "libown-deadbeef.so.1", "pyo3", "setuptools", "cython"}
    library = parts["libyaml-0-2"]
    assert library["licenses"] == [{"license": {"name": "Expat"}}]
    assert library["purl"] == "pkg:deb/debian/libyaml-0-2@0.2.5-2?arch=riscv64"
    assert properties(library)["wheel-farm:licence-text-sha256"] == "33" * 32
    assert properties(library)["wheel-farm:soname"] == "libyaml-0.so.2"
    assert "purl" not in parts["libown-deadbeef.so.1"], "nothing is said of what no package owns"
    assert parts["pyo3"]["hashes"][0]["content"] == "55" * 32
    scopes = {name: item["scope"] for name, item in parts.items()}
    assert (scopes["libyaml-0-2"], scopes["pyo3"], scopes["cython"]) == ("required", "optional", "excluded")
    (tree,) = [item for item in content["dependencies"] if item["ref"] == wheel["bom-ref"]]
    assert len(tree["dependsOn"]) == 3


def test_a_crate_of_two_locks_is_listed_once() -> None:
    content = bill(crates=[CRATE, {**CRATE, "lock": "sub/Cargo.lock"}])
    assert [item["name"] for item in content["components"]].count("pyo3") == 1


def test_a_wheel_that_holds_nothing_of_others_has_a_valid_bill() -> None:
    assert "components" not in bill(grafted=[], crates=[], environment=[])


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(TEXT, TEXT, TEXT)
def test_whatever_a_board_calls_things_the_bill_is_valid_and_the_same_each_time(
    package: str, version: str, licence: str
) -> None:
    library = {**LIBRARY, "package": package, "version": version, "licences": [licence, licence]}
    crate = {**CRATE, "name": package, "version": version}
    assert bill(grafted=[library], crates=[crate]) == bill(grafted=[library], crates=[crate])
