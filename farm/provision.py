"""Provisioning: the playbooks, run by ansible-runner with its output shown as it comes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import ansible_runner

from farm.errors import InputError, NodeError
from farm.paths import REPOSITORY


def provision(inventory: Path, hosts: Sequence[str] = (), playbook: str = "site.yml") -> None:
    """Run a playbook on all machines of an inventory, or on ``hosts`` only.

    Raises:
        InputError: there is no such playbook or inventory.
        NodeError: a machine failed; Ansible's own output says where.
    """
    path = REPOSITORY / "playbooks" / playbook
    for needed in (path, inventory):
        if not needed.exists():
            raise InputError(f"{needed}: no such file", hint="run `farm` from its checkout")
    with tempfile.TemporaryDirectory(prefix="farm-runner-") as private:
        result = ansible_runner.run(
            private_data_dir=private,
            project_dir=str(REPOSITORY),
            playbook=str(path),
            inventory=str(inventory.resolve()),
            limit=",".join(hosts) or None,
            envvars={"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
        )
        stats = result.stats or {}
    bad = sorted({*stats.get("failures", {}), *stats.get("dark", {})})
    if result.status != "successful":
        raise NodeError(
            ", ".join(bad) or "provisioning",
            f"the playbook {playbook} ended as {result.status!r}",
            hint="the failed task is above; mend its cause and run it again, it goes on where it stopped",
        )
