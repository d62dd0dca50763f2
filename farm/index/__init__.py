"""The package index: published files, its pages, the local tree (:mod:`.crawl` checks what is served).

What is imported here is what a build of the pages needs: one more wheel is to take no time.
"""

from farm.index.build import build_index
from farm.index.model import ProjectIndex, ProjectStatus, PublishedFile
from farm.index.tree import IndexTree, add_wheel, read_project

__all__ = [
    "IndexTree",
    "ProjectIndex",
    "ProjectStatus",
    "PublishedFile",
    "add_wheel",
    "build_index",
    "read_project",
]
