"""A real nginx with the configuration of a role, as Ansible writes it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.nodekit import until
from tests.integration.sshkit import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
NGINX = "/usr/sbin/nginx"


@dataclass
class Nginx:
    """One server, on a port of the loopback address."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    workers: int = 2

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "error.log"

    @property
    def access(self) -> Path:
        """What the index's site writes down of requests."""
        return self.directory / "access.log"

    def configure(self, role: str, template: str, site: Mapping[str, object]) -> None:
        """Let Ansible render a role's template, with the role's defaults and a site's variables."""
        folder = REPOSITORY / "roles" / role
        command = [str(Path(sys.executable).parent / "ansible"), "localhost", "-c", "local"]
        command += ["-i", "localhost,", "-m", "ansible.builtin.template"]
        command += ["-a", f"src={folder}/templates/{template} dest={self.directory}/site.conf mode=0644"]
        variables = {
            "ansible_python_interpreter": sys.executable,
            "index_server_log": str(self.access),
            **site,
        }
        command += ["-e", f"@{folder}/defaults/main.yml", "-e", json.dumps(variables)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        # nginx wants folders for what this site never writes, too.
        places = "".join(
            f"{name}_temp_path {self.directory}/temp;\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # The test's folders are closed to nginx's usual user; without root, that line would be a warning.
        user = "user root;\n" if os.geteuid() == 0 else ""
        (self.directory / "nginx.conf").write_text(
            # As roles/index_server has it.
            f"pcre_jit on;\n{user}daemon off;\nworker_processes {self.workers};\n"
            f"pid {self.directory}/pid;\nerror_log {self.log};\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{places}include {self.directory}/site.conf;\n}}\n"
        )

    def start(self) -> None:
        self.log.unlink(missing_ok=True)
        command = [NGINX, "-e", str(self.log), "-p", str(self.directory)]
        command += ["-c", str(self.directory / "nginx.conf")]
        self.process = subprocess.Popen(command, start_new_session=True)
        until(self._answers, "nginx")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(20) == 0
            self.process = None
