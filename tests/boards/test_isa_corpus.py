"""The ISA gate on what a board's own compilers make: how code is more than rv64gc, or looks so."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from typing import Final

import pytest

from farm.verify import Gate, Report
from farm.verify.expect import Allowances
from farm.verify.isa import needs_proof, settle
from farm.verify.judge import verify_wheel
from tests.boards.conftest import Site
from tests.unit.verify.wheelkit import EM_X86_64, NATIVE, make_elf, write_wheel

pytestmark = pytest.mark.boards

BOARD: Final = "vboard-f3"
E_SHOFF: Final = 40
E_SHENTSIZE: Final = 58

# Compiled in one session; what comes out is a tar archive in base64.
BUILD: Final = r"""
set -eu
d=$(mktemp -d); cd "$d"
cat >plain.c <<'END'
long sum(const long *a, long n) { long s = 0; for (long i = 0; i < n; i++) s += a[i]; return s; }
END
cat >guarded.c <<'END'
__attribute__((noinline)) long guarded(void) {
    __asm__ volatile(".option push\n.option arch, +v\nvsetvli t0, zero, e8, m1, ta, ma\nvadd.vv v1, v2, v3\n"
                     ".option pop" ::: "t0");
    return 1;
}
END
cat >insn.c <<'END'
long coded(void) { __asm__ volatile(".insn 0x022180d7"); return 1; }
END
cat >word.c <<'END'
long worded(void) { __asm__ volatile(".4byte 0x022180d7"); return 1; }
END
cat >vendor.c <<'END'
long vendor(long a) { __asm__ volatile(".insn r 0x0b, 1, 1, %0, %0, %0" : "+r"(a)); return a; }
END
cat >table.s <<'END'
    .text
    .globl entry
    .type entry, @function
entry:
    ret
    .size entry, . - entry
    .balign 8
    .type table, @object
table:
    .4byte 0x022180d7, 0x00a9000b, 0xffffffff
    .size table, . - table
END
cat >hints.c <<'END'
void hints(void) { __asm__ volatile(".insn 0x0100000f\nadd x0, x0, x2\nori x0, a0, 1\nauipc x0, 3"); }
END
echo 'int main(void) { return 0; }' >main.c
cat >lib.rs <<'END'
#[no_mangle]
pub extern "C" fn add(a: u64, b: u64) -> u64 {
    std::hint::spin_loop();
    a.wrapping_add(b)
}
END
shared() { out=$1; shift; ${CC:-gcc} -O2 -fPIC -shared -o "$out" "$@"; }
shared plain.so plain.c
shared vector.so -O3 -march=rv64gcv plain.c
for name in guarded insn word vendor hints; do shared $name.so $name.c; done
shared table.so table.s
${STRIP:-strip} --strip-all -o stripped.so guarded.so
${OBJCOPY:-objcopy} --remove-section=.riscv.attributes plain.so bare.so
${OBJCOPY:-objcopy} --remove-section=.riscv.attributes guarded.so bareguarded.so
${CC:-gcc} -O2 -o program main.c
${RUSTC:-rustc} -O --crate-type cdylib -o librust.so lib.rs
tar cz *.so program | base64 -w0
rm -rf "$d"
"""


def without_section_headers(elf: bytes) -> bytes:
    """What Go's linker leaves out with -s, and sstrip: a file that runs without."""
    return elf[:E_SHOFF] + bytes(8) + elf[E_SHOFF + 8 : E_SHENTSIZE] + bytes(6) + elf[E_SHENTSIZE + 6 :]


@pytest.fixture(scope="module")
def corpus(site: Site) -> dict[str, bytes]:
    """The files, by name."""
    # Encoded: Ansible reads meaning into an argument's quotes and equals signs.
    script = base64.b64encode(BUILD.encode()).decode()
    return unpacked(site.on_board(BOARD, f"echo {script} | base64 -d | sh"))


def unpacked(output: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(output.strip().splitlines()[-1]))) as archive:
        members = {m.name: archive.extractfile(m) for m in archive.getmembers()}
        return {name: stream.read() for name, stream in members.items() if stream}


@pytest.fixture(scope="module")
def report(corpus: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What `farm verify` says of a wheel that holds them all, with leave for two of them."""
    files = {f"demo/{name}": data for name, data in corpus.items()}
    files["demo/golike"] = without_section_headers(corpus["bare.so"])
    files["demo/headless.so"] = without_section_headers(corpus["plain.so"])
    files["demo/x86.so"] = make_elf(machine=EM_X86_64)
    wheel = write_wheel(tmp_path_factory.mktemp("wheel"), NATIVE, files)
    allow = Allowances(runtime_guarded={"demo/word*": "never called", "demo/bareguarded.so": "never called"})
    return verify_wheel(wheel, allow=allow)


VERDICTS: Final = {
    "plain.so": ("baseline", "are all rv64gc"),
    "program": ("baseline", "are all rv64gc"),
    "librust.so": ("baseline", "are all rv64gc"),
    "hints.so": ("baseline", "are all rv64gc"),
    "table.so": ("baseline", "are all rv64gc"),
    "vector.so": ("exceeds-tag", "rv64gc has no v,"),
    "guarded.so": ("contains-extended-code", "vsetvli, vadd.vv in guarded, 2 times"),
    "stripped.so": ("contains-extended-code", "vsetvli, vadd.vv in guarded, 2 times"),
    "insn.so": ("contains-extended-code", "vadd.vv in coded, at 0x"),
    "vendor.so": ("contains-extended-code", " in vendor, at 0x"),
    "bare.so": ("unknown", "no Tag_RISCV_arch attribute; "),
    "golike": ("unknown", "no Tag_RISCV_arch attribute; "),
    "headless.so": ("unknown", "no "),
    "word.so": ("runtime-guarded (needs proof)", "never called; contains-extended-code: 1 instruction that"),
    "bareguarded.so": ("runtime-guarded (needs proof)", "vsetvli, vadd.vv in guarded"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_verdict(report: Report, name: str) -> None:
    (found,) = (v for v in report.verdicts if v.gate is Gate.ISA and v.subject == f"demo/{name}")
    verdict, evidence = VERDICTS[name]
    assert found.verdict == verdict
    assert found.ok == (verdict == "baseline")
    assert evidence in found.evidence


def test_every_file_has_one_verdict_and_a_foreign_one_none(report: Report, corpus: dict[str, bytes]) -> None:
    judged = [v.subject for v in report.verdicts if v.gate is Gate.ISA]
    assert sorted(judged) == sorted(f"demo/{name}" for name in VERDICTS)
    assert set(corpus) <= set(VERDICTS)
    (x86,) = (v for v in report.failures if v.subject == "demo/x86.so")
    assert (x86.gate, x86.evidence) == (Gate.ELF, "EM_X86_64, not EM_RISCV")


def test_a_proof_lets_pass_what_the_recipe_names(report: Report) -> None:
    assert {v.subject for v in needs_proof(report)} == {"demo/word.so", "demo/bareguarded.so"}
    settled = settle(report, proven=True, evidence="import demo")
    assert {v.subject for v in settled.verdicts if v.verdict == "runtime-guarded"} == {
        "demo/word.so",
        "demo/bareguarded.so",
    }


def test_a_real_file_cut_anywhere_gives_a_verdict(corpus: dict[str, bytes], tmp_path: Path) -> None:
    whole = corpus["plain.so"]
    for size in range(64, len(whole), 997):
        wheel = write_wheel(tmp_path, NATIVE, {"demo/x.so": whole[:size]})
        assert not verify_wheel(wheel).ok
