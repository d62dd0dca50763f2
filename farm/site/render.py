"""Pages as HTML, XML and JSON: templates of ``index_site/templates`` and the fields themselves."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import farm
from farm.display import duration
from farm.site.text import anchor

SITE: Final = Path(farm.__file__).resolve().parent.parent / "index_site"
STATIC: Final = SITE / "static"
_UNITS: Final = ("bytes", "KB", "MB", "GB", "TB")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(SITE / "templates"),
        # Everything, whatever a template is called: all texts are strangers'.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "size": size,
        "duration": duration,
        "date": lambda moment: moment[:10],
        "minute": lambda moment: moment[:16].replace("T", " "),
        "percent": lambda share: f"{share * 100:.4g}%",
    }
    environment.globals |= {"static": static_name, "anchor": anchor}
    return environment


def render(template: str, path: str, *, farm_pages: bool, **values: object) -> str:
    """Render a page that lies at ``path`` below the root; links in it are relative, so it may lie anywhere.

    ``farm_pages`` says whether there are pages of boards and status to link to.
    """
    root = "../" * path.count("/")
    return _environment().get_template(template).render(root=root, here=path, farm_pages=farm_pages, **values)


def twin(page: Any) -> str:  # noqa: ANN401  # any page
    """Return a page's JSON twin: its fields, as docs/pages.md describes them."""
    return json.dumps(page, default=_fields, ensure_ascii=False, separators=(",", ":")) + "\n"


def _fields(part: Any) -> dict[str, object]:  # noqa: ANN401  # as json wants it
    # dataclasses.asdict copies all texts, which takes as long as all the rest of a page.
    return {field.name: getattr(part, field.name) for field in fields(part)}


def size(number: int) -> str:
    """Return a number of bytes for people, in powers of 1000 as on disks: ``3.4 MB``."""
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:  # noqa: PLR2004  # would be shown as 1000
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"  # noqa: PLR2004


@cache
def static_name(name: str) -> str:
    """Return the path of a static file with a digest of its content: caches may keep it for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"static/{name}?v={digest[:12]}"
