"""The index's web pages: what the farm is, what it built, how each wheel was proved, and its boards.

Models (:mod:`.model`) are plain data; other modules make them from the tree and the store, :mod:`.render`
turns them into HTML and JSON, :mod:`.write` into files.
"""

from farm.site.site import build_site

__all__ = ["build_site"]
