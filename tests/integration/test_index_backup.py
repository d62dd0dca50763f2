"""What docs/reference.md says of backups: packages/ and records/ are enough to serve the same again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from farm.index import IndexTree, build_index
from tests.integration.indexkit import JSON, Site

pytestmark = pytest.mark.integration


def derived(site: Site) -> dict[str, bytes]:
    pages = [*(site.root / "simple").rglob("*"), *(site.root / "pypi").rglob("*")]
    return {path.relative_to(site.root).as_posix(): path.read_bytes() for path in pages if path.is_file()}


def test_an_index_is_restored_from_its_backup(tmp_path: Path) -> None:
    old, new = Site(tmp_path / "old"), Site(tmp_path / "new")
    (tmp_path / "backup").mkdir()
    for site in (old, new):
        site.root.mkdir(parents=True)
    old.publish("kit_a-1.0-py3-none-any.whl", "kit_a-2.0-py3-none-any.whl", at=1_700_000_000)
    old.publish("kit_b-1.0-py3-none-any.whl")
    old.yank("kit_a-2.0-py3-none-any.whl", "eats files")
    parts = [str(old.root / name) for name in ("packages", "records")]
    subprocess.run(["rsync", "-a", *parts, f"{tmp_path}/backup/"], check=True)
    subprocess.run(["rsync", "-a", f"{tmp_path}/backup/", f"{new.root}/"], check=True)
    # Pages have the address of the index in them, which a restored one keeps.
    build_index(IndexTree(new.root, old.url))
    assert derived(new) == derived(old)
    new.start()
    try:
        files = new.get("/simple/kit-a/", Accept=JSON).json()["files"]
        assert [(file["yanked"], file["upload-time"][:4]) for file in files] == [
            (False, "2023"),
            ("eats files", "2023"),
        ]
        assert new.get("/packages/kit-b/kit_b-1.0-py3-none-any.whl").status_code == 200
    finally:
        new.stop()
