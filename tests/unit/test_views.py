"""What a person reads of verdicts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.verify import Gate, Report, Verdict
from farm.views import report_lines

FILES = [f"demo/m{number}.so" for number in range(60)]
PASSED = (
    Verdict(Gate.READABLE, True, "demo.whl", "70 files, CRCs match"),
    *(Verdict(Gate.ELF, True, path, f"ELF64 RISC-V, float ABI double, needs {path}") for path in FILES),
    *(Verdict(Gate.ISA, True, path, "baseline: rv64i") for path in FILES),
)


def lines(*verdicts: Verdict, everything: bool = False) -> list[str]:
    report = Report("demo.whl", "00", verdicts)
    return [line.plain.rstrip() for line in report_lines(report, everything=everything)]


def test_sixty_files_that_pass_are_three_lines() -> None:
    assert lines(*PASSED) == [
        "demo.whl: pass",
        "  pass  readable    70 files, CRCs match",
        "  pass  elf         60 files ELF64 RISC-V",
        "  pass  isa         60 files baseline",
    ]


def test_with_all_each_verdict_has_its_line() -> None:
    shown = lines(*PASSED, everything=True)
    assert len(shown) == 1 + len(PASSED)
    assert "  pass  isa         demo/m7.so: baseline: rv64i" in shown


def test_failures_and_remarks_are_shown_in_full() -> None:
    failed = Verdict(Gate.ISA, False, "demo/v.so", "exceeds-tag: v", "rebuild")
    noted = Verdict(Gate.CONTENT, True, "tests", "at the top of site-packages", "exclude it")
    assert lines(*PASSED, failed, noted) == [
        "demo.whl: FAIL",
        "  pass  readable    70 files, CRCs match",
        "  note  content     tests: at the top of site-packages",
        "  pass  elf         60 files ELF64 RISC-V",
        "  pass  isa         60 files baseline",
        "  FAIL  isa         demo/v.so: exceeds-tag: v",
        "                    fix: rebuild",
    ]


@given(st.text())
def test_a_strangers_file_name_cannot_steer_the_terminal(name: str) -> None:
    for line in lines(Verdict(Gate.PATHS, False, name, "evidence")):
        assert line.isprintable()
