"""What the index host counted of downloads: asked for over HTTP, and kept in the tree for the web pages.

The counts are made there, of a log that is only there; the pages are made here. The controller's key can
write to the index host and read nothing, so this comes the way that users get it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from farm.errors import UpstreamError
from farm.index.write import remove, write_changed
from farm.site.downloads import RECENT, read_counted
from farm.upstream import download, http_session, is_absent

MOST_BYTES: Final = 64 << 20


def ask_counts(url: str, root: Path) -> bool:
    """Ask the index at ``url`` for the last days' counts, and keep them in the tree at ``root``.

    Returns whether they are new. Where it has none, none are kept.

    Raises:
        UpstreamError: it did not answer, or what it said makes no sense; what was known stays.
        PublishError: they can't be written.
    """
    source = f"{url.rstrip('/')}/{RECENT}"
    with http_session(tries=1) as http, tempfile.TemporaryDirectory(prefix="farm-counts-") as folder:
        answer = Path(folder) / "recent.json"
        try:
            download(http, source, answer, MOST_BYTES)
        except UpstreamError as error:
            if is_absent(error):
                return remove(root / RECENT)
            raise
        data = answer.read_bytes()
    read_counted(data, source)
    return write_changed(root / RECENT, data)
