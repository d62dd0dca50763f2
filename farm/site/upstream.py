"""What upstream (PyPI) offers of a project, from what it last said (PEP 691); pure."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farm.site.model import Upstream
from farm.site.text import clean


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")
    filename: str
    upload_time: str | None = Field(default=None, alias="upload-time")
    yanked: bool | str = False

    @property
    def is_yanked(self) -> bool:
        return self.yanked is not False  # an empty reason is one (PEP 592)

    @property
    def version(self) -> Version | None:
        """Its version; None for what is neither wheel nor sdist (PEP 427, 625)."""
        try:
            if self.filename.endswith(".whl"):
                return parse_wheel_filename(self.filename)[1]
            return parse_sdist_filename(self.filename)[1]
        except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
            return None

    @property
    def is_riscv64(self) -> bool:
        return self.filename.endswith("_riscv64.whl")


class _Page(BaseModel):
    model_config = ConfigDict(extra="ignore")
    files: list[_File]


def read_upstream(data: bytes) -> Upstream:
    """Return what upstream offers; where ``data`` makes no sense, that."""
    try:
        page = _Page.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return Upstream("", "", "", riscv64_latest=False, files=0, problem=clean(first["msg"], 200))
    return _offered(page.files)


def _offered(files: Iterable[_File]) -> Upstream:
    dated = [(version, file) for file in files if (version := file.version) and not file.is_yanked]
    # What installers choose first: a final version, the highest.
    latest = max((version for version, _ in dated), key=lambda v: (not v.is_prerelease, v), default=None)
    native = {version for version, file in dated if file.is_riscv64}
    times = [file.upload_time or "" for version, file in dated if version == latest]
    return Upstream(
        latest=str(latest) if latest else "",
        latest_uploaded=clean(min(times, default=""), 40),
        riscv64_since=str(min(native)) if native else "",
        riscv64_latest=latest in native,
        files=len(dated),
    )
