"""The package index: published files, its pages, the local tree, and a crawl that checks what is served."""

from farm.index.crawl import CrawlResult, Problem, crawl
from farm.index.model import ProjectIndex, ProjectStatus, PublishedFile
from farm.index.tree import IndexTree, add_wheel, build_index, next_build_tag, read_project

__all__ = [
    "CrawlResult",
    "IndexTree",
    "Problem",
    "ProjectIndex",
    "ProjectStatus",
    "PublishedFile",
    "add_wheel",
    "build_index",
    "crawl",
    "next_build_tag",
    "read_project",
]
