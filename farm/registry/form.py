"""The form that PyPI's upload API takes (https://docs.pypi.org/api/upload/), with the file as a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.metadata import RawMetadata, parse_email
from urllib3 import encode_multipart_formdata
from urllib3.fields import RequestField

from farm.verify.wheel import read_file
from farm.wheel_name import WheelName

_CHUNK: Final = 1 << 20
# Field names of core metadata, lower case and with underscores; what packaging calls otherwise.
_SINGULAR: Final = {
    "platforms": "platform",
    "supported_platforms": "supported_platform",
    "license_files": "license_file",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """One file to be posted: its form's fields, and its hash at the time when they were made."""

    path: Path
    fields: tuple[tuple[str, str], ...]
    sha256: str


def form_of(path: Path, name: WheelName) -> Upload:
    """Read a wheel and return what is posted of it.

    Raises:
        WheelError: it has no METADATA.
        OSError: it can't be read.
    """
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            sha256.update(piece)
            md5.update(piece)
    raw, _ = parse_email(read_file(path, "METADATA"))
    fixed = [
        (":action", "file_upload"),
        ("protocol_version", "1"),
        ("filetype", "bdist_wheel"),
        ("pyversion", ".".join(sorted({tag.interpreter for tag in name.tags}))),
        # GitLab serves no file whose sha256 it was not told.
        ("sha256_digest", sha256.hexdigest()),
        ("md5_digest", md5.hexdigest()),
    ]
    return Upload(path, (*fixed, *metadata_fields(raw)), sha256.hexdigest())


def metadata_fields(raw: RawMetadata) -> Iterator[tuple[str, str]]:
    """Yield core metadata as form fields; what may stand more than once comes more than once."""
    # setuptools wrote License-File long before Metadata 2.4 had it; PyPI refuses it in older ones.
    early = tuple(map(int, raw.get("metadata_version", "1.0").split("."))) < (2, 4)
    for key, value in raw.items():
        field = _SINGULAR.get(key, key)
        if field == "license_file" and early:
            continue
        if isinstance(value, dict):
            yield from ((field, f"{label}, {url}") for label, url in value.items())
        elif key == "keywords" and isinstance(value, list):
            yield field, ",".join(value)
        elif isinstance(value, list):
            yield from ((field, str(item)) for item in value)
        else:
            yield field, str(value)


class Body:
    """The form on the wire. It can be sent again, and the file is never in memory as a whole."""

    def __init__(self, upload: Upload) -> None:
        fields = [RequestField.from_tuples(*field) for field in upload.fields]
        file = RequestField.from_tuples("content", (upload.path.name, b"", "application/octet-stream"))
        data, self.content_type = encode_multipart_formdata([*fields, file])
        end = data.rindex(b"\r\n--")
        self._head, self._tail = data[:end], data[end:]
        self._path = upload.path

    def __len__(self) -> int:
        return len(self._head) + self._path.stat().st_size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._path.open("rb") as stream:
            while piece := stream.read(_CHUNK):
                yield piece
        yield self._tail
