"""What lies beside a wheel, as a page shows it: right, damaged, or of something else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import WheelError
from farm.provenance.sbom import bill_of_materials
from farm.site.beside import MOST_FINDINGS, about_of, gates_of, libraries_of, origin_of
from farm.site.model import Finding, Library, Link, Outcome
from farm.verify import Gate, Report, Verdict
from tests.unit.provenance.kit import KEY, OTHER, SHA256, built, signed
from tests.unit.verify.wheelkit import NATIVE


def verdicts(*found: Verdict) -> bytes:
    return Report(NATIVE, SHA256, found).to_json().encode()


def test_gates_keep_their_order_and_their_worst() -> None:
    readable, isa, content = gates_of(
        verdicts(
            Verdict(Gate.READABLE, True, NATIVE, "7 files, CRCs match"),
            *(Verdict(Gate.ISA, True, f"demo/m{n}.so", "baseline: rv64i") for n in range(9)),
            Verdict(Gate.ISA, False, "demo/v.so", "exceeds-tag: v", "rebuild"),
            Verdict(Gate.CONTENT, True, "tests", "at the top of site-packages", "exclude it"),
            Verdict(Gate.CONTENT, True, NATIVE, "1.0 MiB unpacked"),
        ),
        NATIVE,
        SHA256,
    )
    assert (readable.gate, readable.outcome, readable.passed) == (
        "readable",
        Outcome.PASS,
        ("7 files, CRCs match",),
    )
    assert (isa.outcome, isa.passed) == (Outcome.FAIL, ("9 files baseline",))
    assert isa.findings == (Finding(Outcome.FAIL, "demo/v.so", "exceeds-tag: v", "rebuild"),)
    assert (content.outcome, content.passed) == (Outcome.NOTE, ("1.0 MiB unpacked",))


def test_few_files_have_a_line_each() -> None:
    found = (Verdict(Gate.ELF, True, f"demo/m{n}.so", f"needs libc, {n}") for n in range(2))
    (elf,) = gates_of(verdicts(*found), NATIVE, SHA256)
    assert elf.passed == ("demo/m0.so: needs libc, 0", "demo/m1.so: needs libc, 1")


def test_of_a_thousand_remarks_the_failures_are_shown() -> None:
    noted = [Verdict(Gate.CONTENT, True, f"t{n}", "odd", "look") for n in range(1000)]
    failed = Verdict(Gate.CONTENT, False, "core", "a core dump", "remove it")
    (content,) = gates_of(verdicts(*noted, failed), NATIVE, SHA256)
    assert content.findings[0].outcome is Outcome.FAIL
    assert len(content.findings) == MOST_FINDINGS
    assert content.left_out == 1001 - MOST_FINDINGS


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b"\xff", b'{"wheel": "x", "sha256": "y", "verdicts": [{}]}']
)
def test_damaged_verdicts_are_told(data: bytes) -> None:
    with pytest.raises(WheelError, match="can't be read"):
        gates_of(data, NATIVE, SHA256)


def test_verdicts_of_other_bytes_are_none() -> None:
    with pytest.raises(WheelError, match="of other bytes"):
        gates_of(verdicts(Verdict(Gate.NAME, True, NATIVE, "")), NATIVE, "00" * 32)


def test_gates_of_a_later_farm_are_shown() -> None:
    data = json.dumps({"wheel": NATIVE, "sha256": SHA256, "verdicts": [{"gate": "quantum", "ok": True}]})
    (gate,) = gates_of(data.encode(), NATIVE, SHA256)
    assert gate.gate == "quantum"


def test_grafted_libraries_come_from_the_bill_of_materials() -> None:
    own, library = libraries_of(bill_of_materials(built(), "MIT", "1").encode(), NATIVE)
    assert library == Library(
        "demo.libs/libyaml-0-1f6ff8ee.so.2.0.9",
        "libyaml-0.so.2",
        "libyaml-0-2",
        "0.2.5-2",
        "libyaml 0.2.5-2",
        ("Expat",),
    )
    assert own.package == "libown-deadbeef.so.1"
    with pytest.raises(WheelError):
        libraries_of(b"{", NATIVE)


def test_origin_is_what_is_signed() -> None:
    origin = origin_of(signed(), NATIVE, SHA256, [KEY.public_key()])
    assert (origin.board.node, origin.board.model) == ("f3", "BananaPi F3")
    assert (origin.toolchain.gcc, origin.width, origin.crates) == ("14.2.0", 4, 1)
    assert origin.environment == ("setuptools==80.9.0", "cython==3.1.2")
    assert origin.source.url.startswith("https://files.test/demo-1.0")
    assert (origin.began, origin.ended) == ("2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z")


def test_what_a_stranger_signed_is_not_shown() -> None:
    with pytest.raises(WheelError):
        origin_of(signed(OTHER), NATIVE, SHA256, [KEY.public_key()])
    with pytest.raises(WheelError):
        origin_of(signed(), NATIVE, "00" * 32, [KEY.public_key()])


def test_metadata_is_utf_8_and_its_links_are_harmless() -> None:
    about = about_of(
        "Metadata-Version: 2.4\nName: demo\nSummary: Grüße\nLicense-Expression: MIT\n"
        "Home-page: https://example.org/\nProject-URL: Quelle ü, https://example.org/src\n"
        "Project-URL: bad, javascript:alert(1)\nProject-URL: empty\n\nBody: no header\n".encode()
    )
    assert about.summary == "Grüße"
    assert about.licence == "MIT"
    assert about.links == (
        Link("Homepage", "https://example.org/"),
        Link("Quelle ü", "https://example.org/src"),
    )


def test_the_text_of_a_licence_is_no_name_of_one() -> None:
    assert about_of(b"License: Copyright\n  All rights\n").licence == ""


@given(st.binary())
def test_whatever_metadata_holds_there_is_something_to_show(data: bytes) -> None:
    about = about_of(data)
    assert about.summary.isprintable()
