from __future__ import annotations

import base64
import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import InputError, WheelError
from farm.provenance.check import check_provenance, checked_beside
from farm.provenance.dsse import PAYLOAD_TYPE, pae, pem_of, read_public_keys
from farm.provenance.key import publish_key, signing_key
from farm.provenance.record import parse_record
from farm.provenance.statement import BUILD_TYPE
from farm.recipe import Recipe
from tests.unit.plankit import spec
from tests.unit.provenance.kit import CRATE, KEY, LIBRARY, OTHER, SHA256, built, record_json, said, signed
from tests.unit.verify.wheelkit import NATIVE, write_wheel

TRUSTED = [KEY.public_key()]
Json = dict[str, Any]


def changed(change: Callable[[Json], object], data: bytes | None = None) -> bytes:
    """A provenance object whose one attestation was changed by hand."""
    content = json.loads(data or signed())
    change(content["attestation_bundles"][0]["attestations"][0])
    return json.dumps(content).encode()


def with_payload(change: Callable[[Json], object]) -> Callable[[Json], object]:
    def on(attestation: Json) -> None:
        envelope = attestation["envelope"]
        content = json.loads(base64.b64decode(envelope["statement"]))
        change(content)
        envelope["statement"] = base64.b64encode(json.dumps(content).encode()).decode()

    return on


def test_pae_is_dsse_s_own_example() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_signed_provenance_holds_and_names_what_lies_beside() -> None:
    found = check_provenance(signed(), NATIVE, SHA256, TRUSTED)
    assert found.beside == {f"{NATIVE}.cdx.json": "77" * 32}
    assert "built on f3, 2023-11-14T22:14:20Z" in found.evidence


def test_the_object_has_pep_740_s_form() -> None:
    content = json.loads(signed())
    assert content["version"] == 1
    (bundle,) = content["attestation_bundles"]
    assert bundle["publisher"]["kind"] == "wheel-farm"
    (attestation,) = bundle["attestations"]
    assert attestation["version"] == 1
    assert set(attestation) == {"version", "verification_material", "envelope"}
    payload = base64.b64decode(attestation["envelope"]["statement"])
    signature = base64.b64decode(attestation["envelope"]["signature"])
    KEY.public_key().verify(signature, pae(PAYLOAD_TYPE, payload))  # raises if it is not so


def test_the_statement_says_all_that_a_build_depends_on() -> None:
    recipe = Recipe(build_constraints=["setuptools<82"], environment={"API_TOKEN": "hunter2", "A": "b"})
    content = said(built(spec(recipe=recipe)))
    predicate: Any = content["predicate"]
    definition = predicate["buildDefinition"]
    external, internal = definition["externalParameters"], definition["internalParameters"]
    assert content["subject"] == [{"name": NATIVE, "digest": {"sha256": SHA256}}]
    assert definition["buildType"] == BUILD_TYPE
    assert external["sdist"]["sha256"] == "ab" * 32
    assert external["recipeDigest"] == recipe.digest()
    assert external["buildConstraints"] == ["setuptools<82"]
    assert external["recipe"]["environment"] == {"API_TOKEN": "(not recorded)", "A": "b"}
    assert "hunter2" not in json.dumps(content)
    assert internal["compiler"]["gcc_march"] == "rv64imafdc"
    assert (internal["sourceDateEpoch"], internal["width"], internal["node"]) == ("1700000000", 4, "f3")
    uris = {item.get("uri") for item in definition["resolvedDependencies"]}
    assert {
        "pkg:pypi/setuptools@80.9.0",
        "pkg:deb/debian/libyaml-0-2@0.2.5-2?arch=riscv64",
        "pkg:cargo/pyo3@0.26.0",
    } <= uris
    run = predicate["runDetails"]
    assert run["metadata"]["startedOn"] == "2023-11-14T22:13:20Z"
    assert run["byproducts"][0]["digest"] == {"sha256": "66" * 32}


TAMPERED: list[tuple[str, Callable[[Json], object], str]] = [
    (
        "another wheel's hash",
        with_payload(lambda s: s["subject"][0]["digest"].update(sha256="0" * 64)),
        "not of this",
    ),
    ("another sdist", with_payload(lambda s: s["predicate"]["buildDefinition"].clear()), "not of this"),
    ("no signature", lambda a: a["envelope"].update(signature=""), "not of this"),
    ("no base64", lambda a: a["envelope"].update(signature="?"), "not base64"),
    ("no envelope", lambda a: a.pop("envelope"), "no provenance object"),
    ("version 2", lambda a: a.update(version=2), "version 2"),
    (
        "another key's name",
        lambda a: a["verification_material"].update(
            public_key=base64.b64encode(
                OTHER.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            ).decode()
        ),
        "another key",
    ),
]


@pytest.mark.parametrize(
    ("change", "message"), [(c, m) for _, c, m in TAMPERED], ids=[n for n, _, _ in TAMPERED]
)
def test_a_changed_attestation_is_refused(change: Callable[[Json], object], message: str) -> None:
    with pytest.raises(WheelError, match=message):
        check_provenance(changed(change), NATIVE, SHA256, TRUSTED)


def test_a_provenance_of_another_wheel_or_by_another_key_is_refused() -> None:
    with pytest.raises(WheelError, match=r"its provenance is of demo-1\.0"):
        check_provenance(signed(), NATIVE.replace("1.0", "1.1"), SHA256, TRUSTED)
    with pytest.raises(WheelError, match="sha256 is 000"):
        check_provenance(signed(), NATIVE, "0" * 64, TRUSTED)
    with pytest.raises(WheelError, match="another key") as caught:
        check_provenance(signed(OTHER), NATIVE, SHA256, TRUSTED)
    assert "trusted: " in caught.value.hint
    with pytest.raises(WheelError, match="another key"):
        check_provenance(signed(), NATIVE, SHA256, [])


def test_every_attestation_must_hold() -> None:
    content, bad = json.loads(signed()), json.loads(signed(OTHER))
    content["attestation_bundles"] += bad["attestation_bundles"]
    with pytest.raises(WheelError, match="another key"):
        check_provenance(json.dumps(content).encode(), NATIVE, SHA256, TRUSTED)
    content["attestation_bundles"] = []
    with pytest.raises(WheelError, match="no provenance object"):
        check_provenance(json.dumps(content).encode(), NATIVE, SHA256, TRUSTED)


def test_two_subjects_or_another_predicate_are_refused_though_signed() -> None:
    content = said()
    subjects: Any = content["subject"]
    with pytest.raises(WheelError, match="its provenance is of"):
        check_provenance(signed(content={**content, "subject": subjects * 2}), NATIVE, SHA256, TRUSTED)
    with pytest.raises(WheelError, match="it states other"):
        check_provenance(signed(content={**content, "predicateType": "other"}), NATIVE, SHA256, TRUSTED)
    with pytest.raises(WheelError, match="of another form"):
        check_provenance(signed(content={"_type": "x"}), NATIVE, SHA256, TRUSTED)


@given(st.data())
def test_no_bit_of_statement_or_signature_can_be_changed(data: st.DataObject) -> None:
    def flip(attestation: Json) -> None:
        part = data.draw(st.sampled_from(["statement", "signature"]))
        raw = bytearray(base64.b64decode(attestation["envelope"][part]))
        bit = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[bit // 8] ^= 1 << bit % 8
        attestation["envelope"][part] = base64.b64encode(raw).decode()

    with pytest.raises(WheelError, match="not of this statement"):
        check_provenance(changed(flip), NATIVE, SHA256, TRUSTED)


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_whatever_is_served_instead_is_an_error_of_one_line(data: bytes) -> None:
    with pytest.raises(WheelError) as caught:
        check_provenance(data, NATIVE, SHA256, TRUSTED)
    assert "\n" not in caught.value.message


def test_the_file_beside_a_wheel_and_what_it_names(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert "can't be read" in checked_beside(wheel, TRUSTED).evidence
    bill = tmp_path / f"{NATIVE}.cdx.json"
    bill.write_text("{}")
    content = said()
    content["subject"] = [{"name": NATIVE, "digest": {"sha256": sha256}}]
    (tmp_path / f"{NATIVE}.provenance").write_bytes(signed(content=content))
    verdict = checked_beside(wheel, TRUSTED)
    assert not verdict.ok
    assert "not the file that the provenance names" in verdict.evidence
    bill.unlink()
    assert checked_beside(wheel, TRUSTED).ok
    wheel.write_bytes(wheel.read_bytes() + b" ")
    assert "its provenance is of" in checked_beside(wheel, TRUSTED).evidence
    with pytest.raises(InputError):
        checked_beside(tmp_path / "none.whl", TRUSTED)


# -- keys ---------------------------------------------------------------------------------------------------


def test_the_key_is_made_once_for_its_owner_only_and_its_public_half_is_added(tmp_path: Path) -> None:
    private, public = tmp_path / "state/provenance.key", tmp_path / "index/provenance.pub"
    publish_key(private, public)
    assert not public.exists(), "nothing was signed yet"
    key = signing_key(private)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert signing_key(private).private_bytes_raw() == key.private_bytes_raw()
    assert [path.name for path in private.parent.iterdir()] == ["provenance.key"]
    for _ in range(2):
        publish_key(private, public)
    assert read_public_keys(public.read_bytes(), "x") == (key.public_key(),)
    private.unlink()
    newer = signing_key(private)
    publish_key(private, public)
    assert read_public_keys(public.read_bytes(), "x") == (key.public_key(), newer.public_key())


def test_bad_keys_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "provenance.key"
    signing_key(path)
    path.chmod(0o644)
    with pytest.raises(InputError) as caught:
        signing_key(path)
    assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(InputError, match="no private key"):
        signing_key(path)
    elliptic = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = elliptic.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    damaged = pem_of(KEY.public_key()).replace(b"MCow", b"MCox")
    for text, message in ((b"", "no public key"), (pem, "not of Ed25519"), (damaged, "can't be read")):
        with pytest.raises(InputError, match=message):
            read_public_keys(text, "keys")


# -- records ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"sdist_sha256": "short"},
        {"width": "4"},
        {"grafted": [{**LIBRARY, "sha256": None}]},
        {"crates": [{**CRATE, "name": "x" * 5000}]},
        {"compiler": None},
    ],
)
def test_a_board_s_record_that_makes_no_sense_is_refused_by_name(changes: dict[str, object]) -> None:
    content = record_json(spec(), **changes)
    with pytest.raises(WheelError, match=next(iter(changes))) as caught:
        parse_record(json.dumps(content).encode(), "demo.1")
    assert "\n" not in caught.value.message


def test_a_record_that_is_no_json_is_refused() -> None:
    with pytest.raises(WheelError, match="unusable: it: Invalid JSON"):
        parse_record(b"\xff{", "demo.1")
