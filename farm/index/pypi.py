"""A project in the shape of PyPI's JSON API, ``/pypi/<name>/json``, as a static file.

https://docs.pypi.org/api/json/: ``info`` is of the newest version; what PyPI alone can know is null, -1 or
empty.
"""

from __future__ import annotations

import json
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING

from packaging.version import Version

from farm.index.read import headers
from farm.index.render import folder_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farm.index.model import ProjectIndex, PublishedFile


def pypi_json(index: ProjectIndex, metadata: bytes, base_url: str = "") -> str:
    """Render a project; ``metadata`` is the METADATA of a file of :func:`newest`, empty if there is none."""
    base, offered = folder_url(base_url), index.offered
    releases: dict[str, list[object]] = {}
    for file in offered:
        releases.setdefault(file.version, []).append(_file(file, base))
    version = newest(offered)
    of_it = [file for file in offered if file.version == version]
    content = {
        "info": _info(index, metadata, of_it, base),
        "last_serial": max((_seconds(file.upload_time) for file in offered if file.upload_time), default=0),
        "releases": releases,
        "urls": releases.get(version, []),
        "vulnerabilities": [],
    }
    return json.dumps(content, separators=(",", ":"))


def newest(files: Sequence[PublishedFile]) -> str:
    """Return the version that PyPI would show: the newest final one that is not yanked, else the newest."""
    newest_first = files[::-1]
    unyanked = [file.version for file in newest_first if file.yanked is None]
    final = (version for version in unyanked if not Version(version).is_prerelease)
    return next(chain(final, unyanked, (file.version for file in newest_first)), "")


def _info(
    index: ProjectIndex, metadata: bytes, files: Sequence[PublishedFile], base: str
) -> Mapping[str, object]:
    fields, body = headers(metadata)

    def one(name: str) -> str | None:
        return fields.get(name, [None])[0] or None

    def many(name: str) -> list[str] | None:
        return fields.get(name)

    urls = dict(text.split(", ", 1) for text in fields.get("project-url", []) if ", " in text)
    yanks = [file.yanked for file in files if file.yanked is not None]
    yanked = bool(files) and len(yanks) == len(files)
    return {
        "author": one("author"),
        "author_email": one("author-email"),
        "bugtrack_url": None,
        "classifiers": many("classifier") or [],
        "description": body or one("description"),
        "description_content_type": one("description-content-type"),
        "docs_url": None,
        "download_url": one("download-url"),
        "downloads": {"last_day": -1, "last_month": -1, "last_week": -1},
        "dynamic": many("dynamic"),
        "home_page": one("home-page"),
        "keywords": one("keywords"),
        "license": one("license"),
        "license_expression": one("license-expression"),
        "license_files": many("license-file"),
        "maintainer": one("maintainer"),
        "maintainer_email": one("maintainer-email"),
        "name": one("name") or index.project,
        "package_url": f"{base or '../../'}simple/{index.project}/",
        "platform": one("platform"),
        "project_url": f"{base or '../../'}simple/{index.project}/",
        "project_urls": urls or None,
        "provides_extra": many("provides-extra"),
        "release_url": f"{base or '../../'}simple/{index.project}/",
        "requires_dist": many("requires-dist"),
        "requires_python": one("requires-python"),
        "summary": one("summary"),
        "version": files[0].version if files else None,
        "yanked": yanked,
        "yanked_reason": yanks[0] or None if yanked else None,
    }


def _file(file: PublishedFile, base: str) -> Mapping[str, object]:
    return {
        "digests": {"sha256": file.sha256},
        "downloads": -1,
        "filename": file.filename,
        "has_sig": False,
        "packagetype": "bdist_wheel",
        "python_version": file.filename.split("-")[-3],
        "requires_python": file.requires_python,
        "size": file.size,
        "upload_time": file.upload_time and file.upload_time.removesuffix("Z"),
        "upload_time_iso_8601": file.upload_time,
        "url": f"{base}{file.path}" if base else file.location,
        "yanked": file.yanked is not None,
        "yanked_reason": file.yanked or None,
    }


def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())
