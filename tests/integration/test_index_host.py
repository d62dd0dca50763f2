"""The role index_server on a machine that systemd runs: an ACME authority's certificate, statistics, logs.

The authority is pebble, Let's Encrypt's own for tests (RFC 8555); it validates by http-01, as the role serves
it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from farm.doctor import Level, served
from farm.nodes import Address, IndexHost
from farm.upstream import sha256_of
from tests.integration.cachekit import make_certificate
from tests.integration.clientkit import Client, installed
from tests.integration.indexkit import Site
from tests.integration.nodekit import until
from tests.integration.systemdkit import HERE, Machine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="User Mode Linux exists for x86 only"),
]
PLAY = HERE / "index.yml"
UNITS = "wheelfarm-index-stats wheelfarm-index-certificate"
RENEWAL = "wheelfarm-index-certificate.service"
COUNTER = "wheelfarm-index-stats.service"
LOG = "/var/log/wheelfarm/index.log"
DAY_S = 86400
BIG = "big-1.0-py3-none-any.whl"
PEBBLE = {
    "listenAddress": "127.0.0.1:14000",
    "managementListenAddress": "127.0.0.1:15000",
    "certificate": "/root/pebble.crt",
    "privateKey": "/root/pebble.key",
    "httpPort": 80,
    "tlsPort": 443,
    "externalAccountBindingRequired": False,
    "certificateValidityPeriod": 90 * DAY_S,
}
# Each order is validated anew; nothing is waited for or refused at random.
SETTINGS = "-E PEBBLE_VA_NOSLEEP=1 -E PEBBLE_WFE_NONCEREJECT=0 -E PEBBLE_AUTHZREUSE=0"


@dataclass
class Host:
    """An index host, and what its users have."""

    machine: Machine
    directory: Path
    first_run: str = ""
    port: int = 0

    @property
    def authority(self) -> Path:
        return self.directory / "authority.pem"

    @property
    def simple(self) -> str:
        return f"https://localhost:{self.port}/simple/"

    def put(self, path: Path, target: str) -> None:
        self.machine.ssh(f"cat >{target} <<'END'\n{path.read_text()}END")

    def start_authority(self) -> None:
        """Start pebble. The host trusts its address as it would trust a public authority's."""
        certificate = make_certificate(self.directory / "pebble.crt", "localhost", days=400)
        self.put(certificate, "/root/pebble.crt")
        self.put(certificate.with_suffix(".key"), "/root/pebble.key")
        self.machine.ssh("cp /root/pebble.crt /etc/ssl/certs/ca-certificates.crt")
        config = json.dumps({"pebble": PEBBLE})
        self.machine.ssh(f"echo '{config}' >/root/pebble.json")
        self.machine.ssh(f"systemd-run --unit=pebble {SETTINGS} pebble -config /root/pebble.json 2>&1")
        roots = "https://localhost:15000/roots/0"
        until(lambda: self.machine.try_ssh(f"curl -sf {roots}").returncode == 0, "pebble")
        self.authority.write_text(self.machine.ssh(f"curl -sf {roots} | tee /root/authority.pem"))

    def publish(self) -> None:
        """Publish two wheels as a farm does: by rsync, with the key that can do nothing else."""
        site = Site(self.directory / "site")
        site.publish("kit_a-1.0-py3-none-any.whl")
        site.publish(BIG, content=os.urandom(16 << 20))
        shell = " ".join(["ssh", *self.machine.ssh_options(), f"-p{self.machine.port}"])
        command = ["rsync", "-rt", "-e", shell, f"{site.root}/", "wheelindex@127.0.0.1:/"]
        subprocess.run(command, check=True, capture_output=True)

    def get(self, path: str) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"https://localhost:{self.port}{path}", verify=str(self.authority), timeout=20)

    def install(self, client: Client, target: Path) -> None:
        client.install(target, "--cert", str(self.authority), "kit-a", index=self.simple)
        assert installed(target) == {"kit_a": "1.0"}

    def properties(self, unit: str, *names: str) -> list[str]:
        wanted = " ".join(f"-p {name}" for name in names)
        lines = self.machine.ssh(f"systemctl show {wanted} {unit}").splitlines()
        found = dict(line.partition("=")[::2] for line in lines)
        return [found[name] for name in names]

    def two_months_later(self) -> None:
        """Let two months pass: the certificate is due, and its timer sees to that."""
        timer = RENEWAL.replace(".service", ".timer")
        before = self.properties(timer, "LastTriggerUSec")
        folder = f"/etc/systemd/system/{timer}.d"
        self.machine.ssh(f"mkdir -p {folder}; printf '[Timer]\\nRandomizedDelaySec=0\\n' >{folder}/now.conf")
        self.machine.ssh("systemctl daemon-reload; date -s '+61 days'")
        until(lambda: self.properties(timer, "LastTriggerUSec") != before, "the timer")

    def serial(self) -> str:
        return self.machine.ssh("openssl x509 -noout -serial -in /etc/wheelfarm/tls/index.crt")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("index")
    machine = Machine(directory)
    try:
        machine.create()
        machine.boot()
        host = Host(machine, directory)
        host.start_authority()
        host.first_run = machine.play(PLAY)
        host.port = machine.reach(443)
        host.publish()
        yield host
    finally:
        machine.destroy()


def test_an_authority_makes_the_certificate_that_clients_and_the_doctor_see(
    host: Host, clients: dict[str, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host.get("/simple/kit-a/").status_code == 200
    for name in ("pip-oldest", "pip-newest"):
        host.install(clients[name], tmp_path / name)
    assert "VALID by completed challenge" in host.machine.ssh("journalctl -o cat -u pebble"), (
        "nothing was assumed"
    )
    assert host.machine.ssh("stat -Lc '%U %a' /etc/wheelfarm/tls/index.key").split() == ["root", "600"]
    monkeypatch.setenv("SSL_CERT_FILE", str(host.authority))
    address = Address("index", "127.0.0.1", 22, "u", tmp_path, tmp_path)
    index = IndexHost(address, "/srv/index", f"https://localhost:{host.port}")
    for after, level in ((0, Level.OK), (57, Level.OK), (61, Level.WARN), (91, Level.FAIL)):
        (check,) = served.certificate(index, time.time() + after * DAY_S)
        assert check.level is level, check


def test_a_second_run_changes_nothing(host: Host) -> None:
    serial = host.serial()
    assert "Get the certificate" in host.first_run
    assert " changed=0 " in host.machine.play(PLAY, part="tls")
    host.machine.ssh(f"systemctl start {RENEWAL}")
    assert host.serial() == serial, "it is good for 90 days"


def test_nginx_compiles_regular_expressions(host: Host) -> None:
    assert host.machine.ssh("nginx -T 2>/dev/null | grep -x 'pcre_jit .*;'") == "pcre_jit on;\n"


def test_systemd_finds_nothing_to_say_of_the_units(host: Host) -> None:
    for unit in UNITS.split():
        done = host.machine.try_ssh(f"systemd-analyze verify /etc/systemd/system/{unit}.service")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        timer = host.properties(f"{unit}.timer", "ActiveState", "UnitFileState", "NextElapseUSecRealtime")
        assert timer[:2] == ["active", "enabled"]
        assert timer[2], "it is armed"


def test_downloads_are_counted_by_the_unit_also_after_the_log_was_rotated(
    host: Host, clients: dict[str, Client], tmp_path: Path
) -> None:
    def counted() -> int:
        host.machine.ssh(f"systemctl start {COUNTER}")
        total = host.get("/stats/total.json").json()
        assert list(total["projects"]) == ["kit-a"]
        return int(total["projects"]["kit-a"]["1.0"])

    def logged(path: str) -> int:
        return int(host.machine.ssh(f"grep -c 'kit_a.*whl\"' {path} || :"))

    host.machine.ssh("systemctl start logrotate.service")
    host.install(clients["pip-newest"], tmp_path / "before")
    until(lambda: logged(LOG) > 0, "nginx to write its log")
    before = counted()
    assert before == logged(LOG)
    assert host.machine.ssh("stat -c %U /srv/index/stats/total.json").strip() == "wheelindex"
    # As on the day after.
    host.machine.ssh(f"sed -i '\\|{LOG}|s/ 2.*/ 2020-1-1-0:0:0/' /var/lib/logrotate/status")
    host.machine.ssh("systemctl start logrotate.service")
    assert logged(f"{LOG}.1") == before
    host.install(clients["pip-newest"], tmp_path / "after")
    until(lambda: logged(LOG) == 1, "nginx to write into the new file")
    assert counted() == before + 1
    assert host.machine.ssh(f"stat -c %a {LOG}").strip() == "640"


def test_a_counter_that_can_not_count_is_a_failed_unit(host: Host) -> None:
    state = "/var/lib/wheelfarm-stats/state.json"
    host.machine.ssh(f"echo nonsense >{state}")
    assert host.machine.try_ssh(f"systemctl start {COUNTER}").returncode != 0
    assert COUNTER in host.machine.ssh("systemctl --failed --plain --no-legend")
    assert "fix: move it away" in host.machine.ssh(f"journalctl -o cat -u {COUNTER}")
    host.machine.ssh(f"rm {state}; systemctl start {COUNTER}")
    assert COUNTER not in host.machine.ssh("systemctl --failed --plain --no-legend")


def test_after_two_months_the_timer_renews_it_and_nobody_notices(host: Host) -> None:
    machine = host.machine
    old = host.serial()
    host.put(HERE / "through.py", "/root/through.py")
    big = f"/packages/big/{BIG}"
    ask = f"python3 /root/through.py /root/authority.pem {big} /root/stop"
    machine.ssh(f"systemd-run --unit=through -p Nice=5 sh -c '{ask} >/root/seen' 2>&1")
    host.two_months_later()
    machine.ssh(f"systemctl start {RENEWAL}")  # it waits for the one that the timer started
    assert host.serial() != old
    served_now = (
        "openssl s_client -connect localhost:443 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )
    assert machine.ssh(served_now) == host.serial()
    machine.ssh("touch /root/stop")
    until(lambda: machine.try_ssh("systemctl is-active through").returncode != 0, "the client")
    seen = json.loads(machine.ssh("cat /root/seen"))
    assert seen["refused"] == []
    assert seen["asked"] > 10
    assert len(seen["serials"]) == 2
    assert seen["sha256"] == sha256_of(host.directory / "site/root" / big.lstrip("/"))


def test_an_authority_that_is_away_fails_the_unit_and_not_the_index(host: Host) -> None:
    machine, old = host.machine, host.serial()
    machine.ssh("systemctl stop pebble")
    host.two_months_later()
    assert machine.try_ssh(f"systemctl start {RENEWAL}").returncode != 0
    assert RENEWAL in machine.ssh("systemctl --failed --plain --no-legend")
    assert host.serial() == old
    page = "curl -sf --cacert /root/authority.pem https://localhost/simple/"
    assert "kit-a" in machine.ssh(page)
