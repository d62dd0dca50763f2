"""The compile helper: a real distccd, as the role's own service file starts it, and a real distcc client.

Which version the cross compiler has makes no difference here: what is sent must come back as if it had been
compiled on this machine, and nobody else and nothing else may be served.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.distcckit import CXX, ROLE, C, Client, Distccd, ask, cross_compiler
from tests.integration.sshkit import free_port

pytestmark = pytest.mark.integration


@pytest.fixture
def gcc() -> str:
    return cross_compiler("gcc")


@pytest.fixture
def gxx() -> str:
    return cross_compiler("g++")


@pytest.fixture
def distccds(gcc: str, gxx: str) -> Iterator[list[Distccd]]:
    """Two helpers: one for 127.0.0.1, where clients here come from, and one for another address."""
    # Not in tmp_path, which only the user of the tests may enter.
    with tempfile.TemporaryDirectory(prefix="farm-distccd-") as directory:
        made = []
        for client in ("127.0.0.1", "127.0.0.2"):
            home = Path(directory, client)
            home.mkdir()
            made.append(Distccd(free_port(), [gcc, gxx], [client], home))
        Path(directory).chmod(0o755)
        try:
            for distccd in made:
                distccd.start()
            yield made
        finally:
            for distccd in made:
                distccd.stop()


@pytest.fixture
def client(tmp_path: Path, distccds: list[Distccd]) -> Client:
    (tmp_path / "unit.c").write_text(C)
    (tmp_path / "unit.cc").write_text(CXX)
    return Client(tmp_path, distccds[0].port)


# Debug information has the lines and columns of preprocessed source, which is what a helper gets;
# -no-integrated-cpp makes it so on this side, too.
@pytest.mark.parametrize("options", [["-g0"], ["-g", "-no-integrated-cpp"]], ids=" ".join)
def test_what_is_sent_comes_back_byte_for_byte(
    client: Client, distccds: list[Distccd], gcc: str, gxx: str, options: list[str]
) -> None:
    for compiler, source in ((gcc, "unit.c"), (gxx, "unit.cc")):
        command = [
            compiler,
            "-O2",
            "-fPIC",
            *options,
            f"-ffile-prefix-map={client.directory}=.",
            "-c",
            source,
        ]
        here = client.local(*command)
        assert source not in distccds[0].served()
        assert client.sent(*command) == here
        assert here[:4] == b"\x7fELF"
        assert here[18:20] == b"\xf3\x00", "machine: RISC-V"
    distccds[0].serves("unit.c", "unit.cc")


def test_the_proof_of_the_role_holds_and_says_when_it_does_not(
    client: Client, distccds: list[Distccd], gcc: str, gxx: str
) -> None:
    prove = str(ROLE / "files/prove.sh")
    done = client.run("sh", prove, client.host, gcc, gxx)
    assert (done.returncode, done.stderr) == (0, "")
    distccds[0].serves("proof.c", "proof.c", "proof.cc", "proof.cc")
    # Here and there the same name, but not the same compiler.
    other = client.directory / gcc
    other.write_text(f'#!/bin/sh\nexec /usr/bin/{gcc} "$@" -frecord-gcc-switches\n')
    other.chmod(0o755)
    path = f"PATH={client.directory}:/usr/bin:/bin"
    done = client.run("env", path, "sh", prove, client.host, gcc, gxx)
    assert done.returncode == 1
    assert "makes other bytes" in done.stderr


@pytest.mark.parametrize("program", ["sh", "/bin/sh", "gcc", "cc", "/usr/bin/env"])
def test_a_program_that_is_not_listed_is_refused(distccds: list[Distccd], program: str) -> None:
    answer = ask(distccds[0], [program, "-c", "unit.i", "-o", "unit.o"])
    assert answer == b""
    assert f"lookup of {program} in DISTCC_CMDLIST failed" in distccds[0].log.read_text()
    assert distccds[0].served() == []


def test_a_listed_name_in_another_folder_is_the_listed_program(distccds: list[Distccd], gcc: str) -> None:
    answer = ask(distccds[0], [f"/nowhere/{gcc}", "-c", "unit.i", "-o", "unit.o"])
    assert answer.startswith(b"DONE")
    distccds[0].serves("unit.i")
    assert f" /usr/bin/{gcc} unit.i" in distccds[0].log.read_text()


def test_an_address_that_is_not_a_builders_is_refused(
    client: Client, distccds: list[Distccd], gcc: str
) -> None:
    request = [gcc, "-c", "unit.i", "-o", "unit.o"]
    ours, other = distccds
    assert ask(ours, request, source="127.0.0.1").startswith(b"DONE")
    assert ask(ours, request, source="127.0.0.2") == b""
    assert ask(other, request, source="127.0.0.2").startswith(b"DONE")
    assert "127.0.0.2" in next(line for line in ours.log.read_text().splitlines() if "denied" in line.lower())
    # The real client fails, too, and does not compile here instead.
    done = Client(client.directory, other.port).run("distcc", gcc, "-c", "unit.c", "-o", "unit.o")
    assert done.returncode != 0
    assert not (client.directory / "unit.o").exists()
    other.serves("unit.i")


def play(directory: Path, helpers: str, *tasks: object) -> None:
    """Run tasks on one builder of two, with these helpers in the inventory."""
    hosts = directory / "hosts.yml"
    hosts.write_text(
        "all:\n  children:\n"
        "    builders: {hosts: {f3: {ansible_host: 192.0.2.11, ansible_connection: local}, 192.0.2.12: {}}}\n"
        f"    compile_helpers: {{hosts: {helpers}}}\n"
    )
    content = [{"hosts": "f3", "gather_facts": False, "tasks": tasks}]
    (directory / "play.yml").write_text(json.dumps(content))
    ansible = str(Path(sys.executable).parent / "ansible-playbook")
    python = f"ansible_python_interpreter={sys.executable}"
    done = subprocess.run(
        [ansible, "-i", str(hosts), "--extra-vars", python, str(directory / "play.yml")],
        cwd=ROLE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_inventory_says_who_helps_whom(tmp_path: Path) -> None:
    tunnel = "{compile_helper_address: 127.0.0.1, compile_helper_jobs: 2}"
    files = [{"ansible.builtin.include_vars": str(ROLE / name / "main.yml")} for name in ("defaults", "vars")]
    wanted = [
        "compile_helper_hosts.split() == ['192.0.2.40:3632/8,lzo', '127.0.0.1:3632/2,lzo']",
        "compile_helper_clients == ['192.0.2.11', '192.0.2.12']",
        "compile_helper_compilers == ['riscv64-linux-gnu-gcc-14', 'riscv64-linux-gnu-g++-14']",
    ]
    check = {"ansible.builtin.assert": {"that": wanted}}
    play(tmp_path, f"{{pc: {{ansible_host: 192.0.2.40}}, tunnel: {tunnel}}}", *files, check)


def test_a_board_without_helpers_compiles_alone(tmp_path: Path) -> None:
    names = tmp_path / "distcc.json"
    names.write_text('{"hosts": ["192.0.2.40:3632/8,lzo"]}')
    role = {"name": "compile_helper", "tasks_from": "client"}
    variables = {"compile_helper_client_file": str(names)}
    play(tmp_path, "{}", {"ansible.builtin.include_role": role, "vars": variables})
    assert not names.exists()
