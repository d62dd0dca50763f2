"""Pages as files: what is written, and when it seems to have been."""

from __future__ import annotations

from pathlib import Path

from farm.site.write import Writer


def test_a_page_of_the_same_size_is_seconds_newer(tmp_path: Path) -> None:
    """Or rsync, which compares size and whole seconds, would not bring it to the host."""
    writer = Writer(tmp_path)
    writer.write("index.html", "demo 1.0")
    first = int((tmp_path / "index.html").stat().st_mtime)
    writer.write("index.html", "demo 1.1")
    assert int((tmp_path / "index.html").stat().st_mtime) > first
