"""The link to a node behind a real sshd: what it trusts, and what it says when it can't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from farm.errors import NodeError
from farm.executor.link import Link
from farm.executor.ssh import SshExecutor
from farm.nodes import Address
from tests.integration.sshkit import Sshd, keygen

pytestmark = pytest.mark.integration


def refused(address: Address) -> NodeError:
    link = Link(address)
    with pytest.raises(NodeError) as caught:
        link.execute("true")
    link.close()
    assert caught.value.message.startswith(f"{address.name}: ")
    assert "\n" not in caught.value.message
    return caught.value


def output(link: Link, command: str) -> bytes:
    with link.execute(command) as channel:
        return channel.recv(100)


def test_a_command_over_the_link(sshd: Sshd) -> None:
    link = Link(sshd.address)
    assert output(link, "echo hello") == b"hello\n"
    link.close()
    assert not link.is_open
    assert output(link, "echo again") == b"again\n", "a closed link is opened anew"
    link.close()


def test_a_wrong_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    address = sshd.address
    other = keygen(tmp_path / "other")
    pinned = " ".join(Path(f"{other}.pub").read_text().split()[:2])
    address.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {pinned}\n")
    error = refused(address)
    assert "another host key than the pinned one" in error.message
    assert str(address.known_hosts) in error.hint


def test_an_unpinned_host_is_refused(sshd: Sshd) -> None:
    address = sshd.address
    address.known_hosts.write_text("")
    error = refused(address)
    assert "its host key is not pinned" in error.message
    assert str(address.known_hosts) in error.hint
    assert address.known_hosts.read_text() == "", "and nothing is learnt"


def test_no_known_hosts_file_is_refused(sshd: Sshd) -> None:
    address = sshd.address
    address.known_hosts.unlink()
    assert "can't be read" in refused(address).message


def test_a_refused_key_names_user_and_key(sshd: Sshd, tmp_path: Path) -> None:
    error = refused(replace(sshd.address, key_file=keygen(tmp_path / "stranger")))
    assert "refuses root with key" in error.message
    assert "farm provision f3" in error.hint


def test_a_missing_key_is_an_error_not_a_traceback(sshd: Sshd, tmp_path: Path) -> None:
    refused(replace(sshd.address, key_file=tmp_path / "absent"))


def test_an_unreachable_node(sshds: list[Sshd]) -> None:
    error = refused(sshds[0].address)
    assert "can't be reached" in error.message
    assert "is the board on" in error.hint


def test_no_farm_node_names_farm_provision(sshd: Sshd) -> None:
    executor = SshExecutor(sshd.node, farm_node="/nosuch/farm-node")
    with pytest.raises(NodeError, match=r"ended with code 127: .*No such file") as caught:
        executor.prepare()
    executor.close()
    assert caught.value.hint == "run `farm provision f3`"


def test_another_version_of_farm_node_names_farm_provision(sshd: Sshd, farm_node: Path) -> None:
    farm_node.write_text('#!/bin/sh\necho \'{"id": 1, "version": 99}\'\n')
    executor = SshExecutor(sshd.node)
    with pytest.raises(NodeError, match="has version 99") as caught:
        executor.prepare()
    executor.close()
    assert caught.value.hint == "run `farm provision f3`"


def test_a_farm_node_from_before_sessions_names_farm_provision(sshd: Sshd, farm_node: Path) -> None:
    farm_node.write_text("#!/bin/sh\necho \"farm-node: error: invalid choice: 'serve'\" >&2\nexit 2\n")
    executor = SshExecutor(sshd.node)
    with pytest.raises(NodeError, match="invalid choice: 'serve'") as caught:
        executor.prepare()
    executor.close()
    assert caught.value.hint == "run `farm provision f3`"
