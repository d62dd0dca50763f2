"""One member of an ordinary zip archive in memory, in a fifth of zipfile's time.

zipfile makes an object of every member before it reads one, and a first build of an index opens each wheel.
What is in any way out of the ordinary (a comment, ZIP64, encryption, damage) is left to zipfile, which names
what is wrong. APPNOTE.TXT 6.3.10: 4.3.7 (local header), 4.3.12 (directory), 4.3.16 (its end).
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

_END: Final = struct.Struct("<4s4H2IH")
_ENTRY: Final = struct.Struct("<4s6H3I5H2I")
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_STORED: Final = 0
_DEFLATED: Final = 8
_ENCRYPTED: Final = 0x1
_UTF8: Final = 0x800


def member(data: bytes, suffix: bytes, largest: int) -> bytes | None:
    """Return the content of the one member, of a folder at the top, whose path ends with ``suffix``.

    None where that is not sure: no such member or several, one above ``largest`` bytes, no ordinary archive.
    """
    found = _entry(data, suffix)
    if found is None:
        return None
    name, method, crc, packed, size, at = found
    if size > largest or at + _LOCAL.size > len(data):
        return None
    magic, _, flags, *_, name_length, extra_length = _LOCAL.unpack_from(data, at)
    begin = at + _LOCAL.size + name_length + extra_length
    named = data[at + _LOCAL.size : at + _LOCAL.size + name_length]
    if magic != b"PK\3\4" or named != name or flags & _ENCRYPTED or begin + packed > len(data):
        return None
    content = data[begin : begin + packed]
    if method == _DEFLATED:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = inflate.decompress(content, size + 1)
        except zlib.error:
            return None
    elif method != _STORED:
        return None
    return content if len(content) == size and zlib.crc32(content) == crc else None


def _entry(data: bytes, suffix: bytes) -> tuple[bytes, int, int, int, int, int] | None:
    """Return name, method, CRC, packed size, size and place of the one member; None if that is not sure."""
    end = len(data) - _END.size
    if end < 0:
        return None
    magic, disk, first, here, count, length, start, comment = _END.unpack_from(data, end)
    if (magic, disk, first, comment) != (b"PK\5\6", 0, 0, 0) or here != count or start + length != end:
        return None
    found, at = None, start
    for _ in range(count):
        if at + _ENTRY.size > end:
            return None
        entry = _ENTRY.unpack_from(data, at)
        if entry[0] != b"PK\1\2":
            return None
        name_at = at + _ENTRY.size
        name = data[name_at : name_at + entry[10]]
        if name.endswith(suffix) and name.count(b"/") == 1:
            if found is not None or entry[3] & _ENCRYPTED or not (entry[3] & _UTF8 or name.isascii()):
                return None
            found = (name, entry[4], entry[7], entry[8], entry[9], entry[16])
        at = name_at + entry[10] + entry[11] + entry[12]
    return found if at == end else None
