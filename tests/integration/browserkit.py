"""A headless Chromium (Debian's), and a server on loopback that sends the pages as strictly as nginx does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import axe_playwright_python
from playwright.sync_api import Browser, Page, sync_playwright

from tests.httpkit import Files, serving_folder

CSP: Final = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'"
BROWSERS: Final = ("chromium", "google-chrome", "chromium-browser")
AXE: Final = Path(axe_playwright_python.__file__).parent / "axe.min.js"


class _Handler(Files):
    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()


@contextmanager
def served(root: Path) -> Iterator[str]:
    """Serve a folder on loopback and give the address of its root."""
    with serving_folder(root, _Handler) as url:
        yield f"{url}/"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, "no Chromium: `apt install chromium`, as playbooks/controller.yml does for tests"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page and all that must not happen on it."""

    page: Page
    base: str
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, page: Page, base: str) -> Watched:
        """Listen to a page; a violation of the CSP is an error on its console."""
        watched = cls(page, base)
        page.on("console", lambda said: watched.note(said.type in {"error", "warning"}, said.text))
        page.on("pageerror", lambda error: watched.note(True, str(error)))
        page.on(
            "request", lambda asked: watched.note(not asked.url.startswith(base), f"asked for {asked.url}")
        )
        page.on("response", lambda got: watched.note(got.status >= 400, f"{got.status} {got.url}"))
        page.on("dialog", lambda dialog: watched.note(True, f"dialog: {dialog.message}"))
        return watched

    def note(self, wrong: bool, what: str) -> None:  # the listeners' own form
        """Keep what went wrong."""
        if wrong:
            self.faults.append(f"{self.page.url}: {what}")

    def open(self, path: str) -> Page:
        """Open a page, and wait for the search where there is one: it is the last thing to come."""
        self.page.goto(self.base + path)
        search = self.page.locator("form[data-search]")
        if search.count():
            search.wait_for(state="visible" if self.page.locator("#list").count() else "attached")
        return self.page

    def axe(self) -> list[str]:
        """Return what axe-core finds that is serious or critical, with where."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: dict[str, Any] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{rule['id']}: {node['html'][:160]}: {node['failureSummary']}"
            for rule in found["violations"]
            if rule["impact"] in {"serious", "critical"}
            for node in rule["nodes"]
        ]
