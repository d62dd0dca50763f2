"""The compile helper: a real distccd, as the role's own service file starts it, and a real distcc client.

Which version the cross compiler has makes no difference here: what is sent must come back as if it had been
compiled on this machine, and nobody else and nothing else may be served.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pytest
import yaml

from tests.integration.nodekit import until
from tests.integration.sshkit import free_port

pytestmark = pytest.mark.integration

ROLE = Path(__file__).parents[2] / "roles/compile_helper"
C = r"""
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define EACH(index, array, ...) for (size_t index = 0; \
        index < sizeof(array) / sizeof(*array); index++) { __VA_ARGS__; }
#define CHECK(condition) do { if (!(condition)) { \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
        return -EINVAL; } } while (0)
struct entry { struct entry *next; uint64_t hash; double weight; char name[16]; };
static struct entry *table[64];
static uint64_t hash_of(const char *name)
{
    uint64_t hash = 14695981039346656037ull;
    while (*name)
        hash = (hash ^ (unsigned char)*name++) * 1099511628211ull;
    return hash;
}
int insert(const char *name, double weight)
{
    CHECK(name &&
          strlen(name) < 16
    ); CHECK(isfinite(weight));
    struct entry *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    strcpy(made->name, name);
    made->hash = hash_of(name);
    made->weight = log1p(fabs(weight));
    struct entry **slot = &table[made->hash % 64];
    made->next = *slot;
    *slot = made;
    return 0;
}
double total(double (*scale)(double))
{
    double sum = 0;
    EACH(i, table,
         for (struct entry *entry = table[i]; entry; entry = entry->next)
             switch (entry->hash & 3) {
             case 0: sum += scale(entry->weight); break;
             case 1: sum -= entry->weight / 3; break;
             default: sum = fma(sum, 0.5, entry->weight);
             })
    return sum;
}
"""
CXX = r"""
#include <algorithm>
#include <cassert>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>
namespace {
struct Shape {
    virtual ~Shape() = default;
    virtual double area() const = 0;
};
template <typename T> struct Box : Shape {
    T width, height;
    Box(T w, T h) : width(w), height(h) { assert(w > 0 && \
        h > 0); }
    double area() const override { return double(width) * double(height); }
};
struct Registry {
    std::map<std::string, std::unique_ptr<Shape>> shapes;
    Registry() { shapes.emplace("unit", std::make_unique<Box<int>>(1, 1)); }
} registry;
}
double largest(const std::vector<std::string> &names, const std::function<double(double)> &scale)
{
    std::vector<double> areas;
    for (const auto &name : names) {
        auto found = registry.shapes.find(name);
        if (found == registry.shapes.end())
            throw std::out_of_range("no shape " + name + " in " __FILE__);
        areas.push_back(scale(found->second->area()));
    }
    std::sort(areas.begin(), areas.end(), [](double a, double b) { return a > b; });
    return std::accumulate(areas.begin(), areas.end(), areas.empty() ? 0. : areas.front());
}
template struct Box<float>;
"""


def cross_compiler(language: str) -> str:
    """Return the versioned name of the cross compiler that the role `controller` installed."""
    found = shutil.which(f"riscv64-linux-gnu-{language}")
    assert found, f"no cross {language}; make test installs it"
    name = Path(found).resolve().name
    assert name.rpartition("-")[2].isdigit(), f"{found} is {name}, which has no version in its name"
    return name


@pytest.fixture
def gcc() -> str:
    return cross_compiler("gcc")


@pytest.fixture
def gxx() -> str:
    return cross_compiler("g++")


@dataclass
class Distccd:
    """One distccd, as a helper of these clients would run it."""

    port: int
    compilers: list[str]
    clients: list[str]
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        service = self._service()
        assert service["User"] == ["distccd"]
        # A test run without root is another unprivileged user, which does as well.
        root = os.geteuid() == 0
        command = shlex.split(service["ExecStart"][0])
        assert "--enable-tcp-insecure" not in command
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=dict(line.split("=", 1) for line in service["Environment"]),
                cwd=self.directory,
                start_new_session=True,
                user=service["User"][0] if root else None,
                group="nogroup" if root else None,
                extra_groups=[] if root else None,
            )
        until(self._answers, f"distccd: {self.log.read_text()}")

    def _service(self) -> dict[str, list[str]]:
        """Render the role's own files; return the settings of the service's main section."""
        compilers = self.directory / "compilers"
        defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
        variables = {
            **{name: value for name, value in defaults.items() if "{{" not in str(value)},
            "ansible_managed": "a test",
            "ansible_facts": {"architecture": platform.machine()},
            "compile_helper_listen": "127.0.0.1",
            "compile_helper_port": self.port,
            "compile_helper_jobs": 2,
            "compile_helper_clients": self.clients,
            "compile_helper_compilers": self.compilers,
            "compile_helper_list": compilers,
        }
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(ROLE / "templates"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,  # as Ansible does
            autoescape=False,  # noqa: S701 - no HTML
        )
        compilers.write_text(environment.get_template("compilers.j2").render(variables))
        unit = environment.get_template("distccd.service.j2").render(variables)
        settings: dict[str, list[str]] = {}
        for line in unit.partition("[Service]")[2].partition("[Install]")[0].splitlines():
            if line and not line.startswith("#"):
                settings.setdefault(line.partition("=")[0], []).append(line.partition("=")[2])
        return settings

    @property
    def log(self) -> Path:
        return self.directory / "distccd.log"

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def served(self) -> list[str]:
        """Return what was compiled for somebody, as distccd's log has it."""
        return sorted(line.split()[-1] for line in self.log.read_text().splitlines() if "COMPILE_OK" in line)

    def serves(self, *sources: str) -> None:
        """Wait for the log, which is written after the answer: it must name these and no others."""
        until(lambda: len(self.served()) >= len(sources), f"{sources}: {self.log.read_text()}")
        assert self.served() == sorted(sources)

    def stop(self) -> None:
        """End it, and the children that wait for connections."""
        if self.process is not None:
            os.killpg(self.process.pid, 15)
            self.process.wait()


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


@dataclass
class Client:
    """A board with one helper; `distcc` never compiles here instead."""

    directory: Path
    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}/2,lzo"

    def local(self, *command: str) -> bytes:
        return self._object([*command, "-o", "here.o"], "here.o")

    def sent(self, *command: str) -> bytes:
        return self._object(["distcc", *command, "-o", "there.o"], "there.o")

    def _object(self, command: list[str], name: str) -> bytes:
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stderr}\n{self.log()}"
        content = (self.directory / name).read_bytes()
        (self.directory / name).unlink()
        return content

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        state = self.directory / "state"
        state.mkdir(exist_ok=True)
        environment = {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "DISTCC_HOSTS": self.host,
            "DISTCC_FALLBACK": "0",
            "DISTCC_DIR": str(state),
            "DISTCC_LOG": str(self.directory / "distcc.log"),
            "DISTCC_VERBOSE": "1",
        }
        return subprocess.run(
            command,
            env=environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def log(self) -> str:
        path = self.directory / "distcc.log"
        return path.read_text() if path.exists() else ""


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


def ask(distccd: Distccd, command: list[str], source: str = "127.0.0.1") -> bytes:
    """Send one request in distcc's protocol, version 1; return the answer, empty if the door was shut."""

    def token(name: str, number: int) -> bytes:
        return f"{name}{number:08x}".encode()

    code = b"int main(void) { return 0; }\n"
    request = token("DIST", 1) + token("ARGC", len(command))
    request += b"".join(token("ARGV", len(word)) + word.encode() for word in command)
    request += token("DOTI", len(code)) + code
    with socket.create_connection(("127.0.0.1", distccd.port), 30, (source, 0)) as connection:
        try:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionError:
            return b""


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
