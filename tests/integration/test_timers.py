"""roles/farm_timers: units that systemd understands, from Ansible's own templates."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from farm.doctor.timers import TIMERS
from farm.paths import REPOSITORY

pytestmark = pytest.mark.integration
ROLE = REPOSITORY / "roles" / "farm_timers"
COMMAND = "/bin/true"


def playbook(
    folder: Path, *tasks: dict[str, object], **variables: object
) -> subprocess.CompletedProcess[str]:
    """Run tasks on this machine with the role's own defaults and variables."""
    path = folder / "play.yml"
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults" / "main.yml"), str(ROLE / "vars" / "main.yml")],
        "vars": {"role_path": str(ROLE), "ansible_python_interpreter": sys.executable},
        "tasks": list(tasks),
    }
    path.write_text(yaml.safe_dump([play]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(path)]
    site = {"farm_timers_command": COMMAND, "farm_timers_inventory": "/srv/my site", **variables}
    return subprocess.run(
        [*command, "-e", json.dumps(site)], check=False, capture_output=True, text=True, cwd=REPOSITORY
    )


def rendered(folder: Path, **variables: object) -> Path:
    """Render all units into a folder."""
    tasks: list[dict[str, object]] = [
        {
            "name": f"Render each {kind}",
            "ansible.builtin.template": {
                "src": f"{ROLE}/templates/farm.{kind}.j2",
                "dest": f"{folder}/{{{{ item.name }}}}.{kind}",
            },
            "loop": "{{ farm_timers_units }}",
        }
        for kind in ("service", "timer")
    ]
    done = playbook(folder, *tasks, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_units_are_what_systemd_understands(tmp_path: Path) -> None:
    folder = rendered(
        tmp_path,
        farm_timers_user="root",
        farm_timers_state="/srv/100%",
        farm_timers_on_failure="mail.service",
    )
    service = (folder / "farm-index-try.service").read_text()
    assert f'ExecStart="{COMMAND}" index try\n' in service
    assert 'Environment="FARM_INVENTORY=/srv/my site"' in service
    assert 'Environment="FARM_STATE=/srv/100%%"' in service, "% is systemd's own letter"
    assert "OnFailure=mail.service" in service
    assert "User=root" in service
    assert "OnCalendar=*-*-* 02:30:00" in (folder / "farm-index-try.timer").read_text()
    assert sorted(path.stem for path in folder.glob("*.timer")) == sorted(TIMERS), "as the doctor knows them"
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "a Debian or Ubuntu has it"
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, sorted(folder.glob("farm-*.timer")))],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "farm-doctor.timer").write_text("[Timer]\nOnCalendar=every now and then\n")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(folder / "farm-doctor.timer")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr or done.returncode, "it would have been seen"


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="here timers would be set up")
def test_no_systemd_no_timers_and_it_says_so(tmp_path: Path) -> None:
    done = playbook(tmp_path, {"ansible.builtin.include_role": {"name": "farm_timers"}})
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "systemd does not run this machine" in said
    assert "farm index refresh, farm index try, farm doctor --quiet" in said
    assert "changed=0" in said
