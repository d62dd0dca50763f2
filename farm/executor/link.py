"""One SSH connection to a machine whose host key is pinned."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import paramiko
from fabric import Config, Connection
from paramiko.packet import Packetizer

from farm.errors import NodeError
from farm.nodes import Address

CONNECT_TIMEOUT_S: Final = 20
STALLED_S: Final = 60
# Linux closes a link whose peer has confirmed nothing for so long; paramiko's keepalive does not notice.
USER_TIMEOUT_MS: Final = 30_000
# How long paramiko's thread waits for a packet before it looks whether it was closed. Its own 0.1 s would
# wake the controller ten times a second for each node; closing shuts the socket down, which is seen at once.
QUIET_S: Final = 60.0
SSH_PORT: Final = 22
# What a link that breaks raises, at any moment and in any call: closing sends a message, too.
BROKEN: Final = (OSError, EOFError, paramiko.SSHException)


class _Packets(Packetizer):
    """Packets of a connection whose handshake is timed by the clock.

    paramiko starts a thread for that, and keeps what is left of it: 3 KiB.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._over_at: float | None = None

    def start_handshake(self, timeout: float) -> None:
        """Only the first one has a limit: who changes keys later has long been let in."""
        if self._over_at is None:
            self._over_at = time.monotonic() + timeout

    def complete_handshake(self) -> None:
        """Take as much time as it takes from now on."""
        self._over_at = math.inf

    def handshake_timed_out(self) -> bool:
        """Whether to give it up."""
        return self._over_at is not None and time.monotonic() > self._over_at


class Link:
    """A connection that fabric makes, with TCP_NODELAY, TCP_USER_TIMEOUT and errors that name the fix."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._client: paramiko.SSHClient | None = None
        self._sftp: paramiko.SFTPClient | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as this side knows."""
        client = self._client
        transport = None if client is None else client.get_transport()
        return transport is not None and transport.is_active()

    def execute(self, command: str) -> paramiko.Channel:
        """Start a command in a channel of its own.

        Raises:
            NodeError: the node can't be reached or trusted, or gives no channel.
        """
        client = self._open()
        try:
            channel = _transport(client).open_session(timeout=CONNECT_TIMEOUT_S)
            channel.settimeout(CONNECT_TIMEOUT_S)
            channel.exec_command(command)
        except BROKEN as error:
            self.close()
            raise self._error(f"it gives no channel: {type(error).__name__}: {error}") from error
        return channel

    def sftp(self) -> paramiko.SFTPClient:
        """Return the connection's SFTP client."""
        client = self._open()
        if self._sftp is not None:
            return self._sftp
        try:
            sftp = client.open_sftp()
        except BROKEN as error:
            self.close()
            raise self._error(f"no SFTP: {error}") from error
        channel = sftp.get_channel()
        if channel is not None:
            channel.settimeout(STALLED_S)
        self._sftp = sftp
        return sftp

    def close(self) -> None:
        """Drop the connection."""
        client, sftp, self._client, self._sftp = self._client, self._sftp, None, None
        if client is None:
            return
        transport = client.get_transport()
        if transport is not None:
            with contextlib.suppress(*BROKEN):
                # Its thread looks up at once, and no goodbye waits for a peer that is gone.
                transport.sock.shutdown(socket.SHUT_RDWR)
        for part in (sftp, client):
            if part is not None:
                with contextlib.suppress(*BROKEN):
                    part.close()

    def _open(self) -> paramiko.SSHClient:
        if self._client is not None and self.is_open:
            return self._client
        self.close()
        address = self.address
        connection = Connection(
            address.host,
            user=address.user,
            port=address.port,
            connect_timeout=CONNECT_TIMEOUT_S,
            connect_kwargs={
                "key_filename": str(address.key_file),
                "look_for_keys": False,
                "allow_agent": False,
                "banner_timeout": CONNECT_TIMEOUT_S,
                "auth_timeout": CONNECT_TIMEOUT_S,
                "transport_factory": partial(paramiko.Transport, packetizer_class=_Packets),
            },
            # The inventory says all there is to say; a user's ~/.ssh/config must not change it.
            config=Config(lazy=True, overrides={"load_ssh_configs": False}),
        )
        self._trust(connection)
        try:
            self._connect(connection)
        except BaseException:
            # It has a thread and a socket, which would live until the other side loses patience.
            connection.client.close()
            raise
        # Not the connection itself: its configuration is as large as all of the client's state.
        client: paramiko.SSHClient = connection.client
        self._client = client
        return client

    def _trust(self, connection: Connection) -> None:
        file, port = self.address.known_hosts, self.address.port
        name = self.address.host if port == SSH_PORT else f"[{self.address.host}]:{port}"
        try:
            seen = file.stat()
            pinned = _host_keys(file, (seen.st_mtime_ns, seen.st_size, seen.st_ino)).lookup(name)
        except OSError as error:
            raise self._error(
                f"{self.address.known_hosts} can't be read: {error.strerror}",
                hint="pin the host's key there (ssh-keyscan, then compare it on the board's console)",
            ) from error
        for kind, key in (pinned or {}).items():
            connection.client.get_host_keys().add(name, kind, key)
        connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())

    def _connect(self, connection: Connection) -> None:
        where = f"{self.address.host} port {self.address.port}"
        known_hosts = self.address.known_hosts
        try:
            sock = connection.connect_kwargs["sock"] = self._socket()
            connection.open()
            sock.settimeout(QUIET_S)
        except paramiko.BadHostKeyException as error:
            raise self._error(
                f"{where} shows another host key than the pinned one: another machine, or a reinstalled one",
                hint=f"compare it on the board's console; if it is right, replace its line in {known_hosts}",
            ) from error
        except paramiko.AuthenticationException as error:
            raise self._error(
                f"{where} refuses {self.address.user} with key {self.address.key_file}",
                hint=f"run `farm provision {self.address.name}`",
            ) from error
        except paramiko.SSHException as error:
            unknown = "not found in known_hosts" in str(error)
            raise self._error(
                f"{where}: its host key is not pinned" if unknown else f"{where}: {error}",
                hint=f"add its key to {known_hosts}" if unknown else "look at the board's sshd",
            ) from error
        except OSError as error:
            raise self._error(
                f"{where} can't be reached: {error.strerror or error}",
                hint="is the board on and its sshd up?",
            ) from error
        except EOFError as error:  # an sshd that is restarted, or has too many guests, hangs up in mid-word
            raise self._error(
                f"{where} hung up while the connection was made", hint="look at the board's sshd"
            ) from error

    def _socket(self) -> socket.socket:
        # Not set on paramiko's socket afterwards: a link that broke at once has none any more.
        sock = socket.create_connection((self.address.host, self.address.port), CONNECT_TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        # While an answer is waited for, nothing is on its way that could stay unconfirmed: the kernel asks.
        ask_s = max(1, USER_TIMEOUT_MS // 3000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ask_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ask_s)
        return sock

    def _error(self, message: str, *, hint: str = "") -> NodeError:
        return NodeError(self.address.name, message, hint=hint)


@lru_cache(maxsize=4)
def _host_keys(file: Path, _version: tuple[int, ...]) -> paramiko.HostKeys:
    """Return what is pinned in a file: hundreds of links read the same one, and each keeps only its own."""
    return paramiko.HostKeys(str(file))


def _transport(client: paramiko.SSHClient) -> paramiko.Transport:
    transport = client.get_transport()
    if transport is None:
        raise EOFError("the connection was closed")
    return transport
