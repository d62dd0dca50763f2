"""A compile helper and a board that uses it: distccd as the role's own service file starts it, and distcc."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml

from tests.integration.nodekit import until

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
