"""Builds on a node over SSH: the controller's side of ``farm-node`` (:mod:`farm.node`)."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import paramiko

from farm.errors import NodeError
from farm.executor.base import AttemptState, Launch, NodeFile, Progress, Result
from farm.executor.link import Link
from farm.node import VERSION
from farm.nodes import Facts, Node
from farm.upstream import sha256_of

FARM_NODE: Final = "/usr/local/lib/wheelfarm/farm-node"


class SshExecutor:
    """An :class:`farm.executor.Executor` for one node, over one SSH connection."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._link = Link(node.address)
        self._brought: set[str] = set()

    def probe(self) -> Facts:
        """See Executor."""
        answer = self._farm_node("probe")
        # Before the rest is read: another version's facts may have other fields.
        version = json.loads(answer).get("runner_version")
        if version != VERSION:
            raise NodeError(
                self.node.name,
                f"its farm-node has version {version}, this controller needs {VERSION}",
                hint=f"run `farm provision {self.node.name}`",
            )
        return Facts.from_json(answer)

    def start(self, launch: Launch) -> None:
        """See Executor."""
        incoming = f"{self.node.root}/incoming"
        self._bring(launch.sdist, f"{incoming}/{launch.spec.sdist_sha256}", launch.spec.sdist_filename)
        spec = json.dumps(launch.to_json()).encode()
        self._put(io.BytesIO(spec), len(spec), f"{incoming}/{launch.attempt_id}.json")
        self._farm_node("start", launch.attempt_id)

    def poll(self, offsets: Mapping[str, int]) -> Sequence[Progress]:
        """See Executor."""
        if not offsets:
            return []
        answer = json.loads(
            self._farm_node("poll", *(f"{name}:{offset}" for name, offset in offsets.items()))
        )
        return [_progress(item) for item in answer["attempts"]]

    def collect(self, attempt_id: str, file: NodeFile, directory: Path) -> Path:
        """See Executor."""
        if Path(file.filename).name != file.filename:
            raise NodeError(self.node.name, f"it names a file {file.filename!r}: not a plain file name")
        directory.mkdir(parents=True, exist_ok=True)
        partial = directory / f".{file.filename}.partial"
        try:
            self._link.sftp().get(
                f"{self.node.root}/jobs/{attempt_id}/wheelhouse/{file.filename}", str(partial)
            )
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._link.close()
            raise NodeError(self.node.name, f"{file.filename} can't be collected: {error}") from error
        actual = sha256_of(partial)
        if actual != file.sha256:
            partial.unlink()
            raise NodeError(
                self.node.name, f"{file.filename} arrived with sha256 {actual}, the node said {file.sha256}"
            )
        return partial.replace(directory / file.filename)

    def cancel(self, attempt_id: str) -> None:
        """See Executor."""
        self._farm_node("cancel", attempt_id)

    def forget(self, attempt_id: str) -> None:
        """See Executor."""
        self._farm_node("forget", attempt_id)

    def close(self) -> None:
        """See Executor."""
        self._link.close()

    def _farm_node(self, *arguments: str) -> str:
        return self._link.run(shlex.join([FARM_NODE, "--root", self.node.root, *arguments]))

    def _bring(self, path: Path, directory: str, filename: str) -> None:
        """Upload a file once; its directory is its hash, so what lies there under its name is right."""
        target = f"{directory}/{filename}"
        if target in self._brought:
            return
        # Where it can't be made, it is there already or the upload says why.
        with contextlib.suppress(OSError):
            self._link.sftp().mkdir(directory)
        with path.open("rb") as content:
            self._put(content, path.stat().st_size, target)
        self._brought.add(target)

    def _put(self, content: BinaryIO, size: int, target: str) -> None:
        partial = f"{target}.partial"
        try:
            sftp = self._link.sftp()
            sftp.putfo(content, partial, file_size=size, confirm=True)
            sftp.posix_rename(partial, target)
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._link.close()
            raise NodeError(
                self.node.name, f"{target} can't be written: {error}", hint="is its disk full?"
            ) from error


def _progress(item: Mapping[str, object]) -> Progress:
    result = item.get("result")
    return Progress(
        attempt_id=str(item["attempt"]),
        state=AttemptState(str(item["state"])),
        log=base64.b64decode(str(item["log"])),
        offset=int(str(item["offset"])),
        more=bool(item.get("more", False)),
        result=_result(result) if isinstance(result, dict) else None,
    )


def _result(content: Mapping[str, object]) -> Result:
    wheels, failure = content["wheels"], content["failure"]
    return Result(
        failure=None if failure is None else str(failure),
        message=str(content["message"]),
        wheels=tuple(NodeFile(**wheel) for wheel in wheels) if isinstance(wheels, list) else (),
        started_at=float(str(content["started"])),
        duration_s=float(str(content["duration_s"])),
        phases_s=_mapping(content, "phases_s"),
        processor_s=_mapping(content, "processor_s"),
        toolchain=_mapping(content, "toolchain"),
    )


def _mapping(content: Mapping[str, object], key: str) -> Mapping[str, Any]:
    # A build may have been started by an older farm-node, which did not say everything.
    found = content.get(key)
    return found if isinstance(found, dict) else {}
