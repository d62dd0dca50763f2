"""The fast reader says what zipfile says, or nothing."""

from __future__ import annotations

import io
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st

from farm.errors import WheelError
from farm.index.read import read_metadata
from farm.index.zipped import member
from tests.unit.verify.wheelkit import wheel_members, zip_bytes

SUFFIX = b".dist-info/METADATA"
METADATA = "demo-1.0.dist-info/METADATA"
GOOD = zip_bytes(wheel_members("demo-1.0-py3-none-any.whl"))
KINDS = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
PATHS = st.sampled_from(
    ["demo/a.py", METADATA, "other-1.0.dist-info/METADATA", f"demo/{METADATA}", "é-1.0.dist-info/METADATA"]
)


@given(
    st.lists(st.tuples(PATHS, st.binary(max_size=400), KINDS), max_size=5, unique_by=lambda m: m[0]),
    st.binary(max_size=3),
)
def test_archives_of_any_kind(members: list[tuple[str, bytes, int]], comment: bytes) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data, kind in members:
            archive.writestr(zipfile.ZipInfo(path), data, compress_type=kind)
        archive.comment = comment
    found = member(out.getvalue(), SUFFIX, 1 << 20)
    wanted = [
        data for path, data, _ in members if path.endswith(".dist-info/METADATA") and path.count("/") == 1
    ]
    assert found in ([wanted[0], None] if len(wanted) == 1 else [None])
    ordinary = all(kind != zipfile.ZIP_BZIP2 for _, _, kind in members) and not comment
    if len(wanted) == 1 and ordinary:
        assert found == wanted[0]


@settings(max_examples=200)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255), st.integers(0, len(GOOD)))
def test_damage_is_never_read(at: int, flip: int, length: int) -> None:
    spoilt = bytearray(GOOD)
    spoilt[at] ^= flip
    for data in (bytes(spoilt), GOOD[:length]):
        found = member(data, SUFFIX, 1 << 20)
        if found is None:
            continue
        try:
            wanted = read_metadata("demo", io.BytesIO(data))
        except WheelError:  # another member is damaged, or what zipfile alone looks at
            wanted = found
        assert found == wanted
        assert found == wheel_members("demo-1.0-py3-none-any.whl")[METADATA]


def test_what_is_too_large_is_left_alone() -> None:
    assert member(GOOD, SUFFIX, 10) is None
    assert member(GOOD, SUFFIX, 1 << 20)
