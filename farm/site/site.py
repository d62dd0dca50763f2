"""All pages of an index: which are to be made again, and in which order they are written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from packaging.utils import canonicalize_name
from pydantic import TypeAdapter, ValidationError

from farm.index import IndexTree, ProjectIndex, ProjectStatus, read_project
from farm.nodes import Node
from farm.paths import Paths
from farm.site.boards import boards_page
from farm.site.builds import build_page
from farm.site.downloads import Counted, kept_counts, statistics_page
from farm.site.history import History, attempt_id, build_path
from farm.site.home import NEVER, feed_entries, feed_id, home_page, newest_time, search_json, snippets
from farm.site.logs import Logs
from farm.site.model import HomePage, ProjectRow, Upstream
from farm.site.project import Builds, newest_version, project_pages, project_path, project_row
from farm.site.render import STATIC, render, twin
from farm.site.status import status_page
from farm.site.upstream import read_upstream
from farm.site.wheels import Shelf
from farm.site.write import Writer
from farm.store import Attempt, Job, Store

STATUS_WORDS: Final = {
    ProjectStatus.ARCHIVED: "Nothing more is built of it.",
    ProjectStatus.QUARANTINED: "Installers are told not to use it.",
    ProjectStatus.DEPRECATED: "Use something else in its place.",
}
MOST_NAMES: Final = 25
"""How many projects, installers, ... the page of downloads shows; its JSON has all."""
_HOME: Final = TypeAdapter(HomePage)


def build_site(
    tree: IndexTree,
    store: Store | None = None,
    paths: Paths | None = None,
    nodes: Sequence[Node] = (),
    projects: Collection[str] | None = None,
    *,
    logs: bool = True,
) -> frozenset[str]:
    """Write the pages that changed and return their paths, removed ones included, relative to the tree.

    Args:
        tree: what is published; all that is needed for the pages of projects.
        store: the farm's; without it the pages of builds, boards and status stay as they are.
        paths: where logs are; without it, builds are shown without.
        nodes: the boards of the inventory.
        projects: those known to have changed; None: all are looked at. Those of which the store has news
            are made again, too.
        logs: whether logs of builds and proofs are published; if not, those that are there go.

    Raises:
        PublishError: a page can't be written, or a folder of the tree is not named as a project is.
    """
    history = History.of(store) if store else None
    kept = Logs(tree, paths, logs)
    site = _Site(tree, Writer(tree.root), history, kept, kept_counts(tree.root))
    site.static()
    asked = None if projects is None else {str(canonicalize_name(name)) for name in projects}
    told = site.builds(asked) | kept.write_proofs(site.writer)
    home = site.projects(None if asked is None else asked | told)
    site.farm(nodes)
    site.statistics(home)
    site.home(home)
    return frozenset(site.writer.changed)


@dataclass(slots=True)
class _Site:
    tree: IndexTree
    writer: Writer
    history: History | None
    logs: Logs
    counted: Counted | None

    def static(self) -> None:
        files = sorted(path for path in STATIC.iterdir() if path.is_file())
        for path in files:
            self.writer.write(f"static/{path.name}", path.read_bytes())
        self.writer.keep_only("static", {path.name for path in files})

    def page(self, template: str, page: object, path: str, **values: object) -> None:
        """Write a page and its twin; the twin first, for the page links to it."""
        farm_pages = self.history is not None or (self.tree.root / "boards/index.html").is_file()
        folder = unquote(path)
        self.writer.write(f"{folder}index.json", twin(page))
        html = render(template, path, farm_pages=farm_pages, page=page, **values)
        self.writer.write(f"{folder}index.html", html)

    # -- builds -------------------------------------------------------------------------------------

    def builds(self, asked: Collection[str] | None) -> set[str]:
        """Write the pages of attempts, their logs before them; return projects whose logs came or went."""
        if self.history is None:
            return set()
        told = set()
        by_job: dict[str, list[str]] = {}
        for attempt in self.history.attempts:
            by_job.setdefault(attempt.job_id, []).append(attempt_id(attempt))
        known = {attempt_id(attempt): attempt for attempt in self.history.attempts}
        for name, attempt in known.items():
            job, named = self.history.jobs[attempt.job_id], asked is None or attempt.project in asked
            other_logs = self.logs.stale(name)
            if not (named or other_logs or self.stale(job.job_id, build_path(name))):
                continue
            if other_logs:
                told.add(attempt.project)
            logs = self.logs.of_attempt(name)
            for file, text in logs.files.items():
                self.writer.write(f"build/{name}/{file}", text)
            others = [known[other] for other in by_job[attempt.job_id] if other != name]
            wheel = self.tree.packages / attempt.project / (job.wheel or "-")
            page = build_page(attempt, job, others, logs, published=wheel.is_file())
            self.page("build.html", page, page.path)
            self.writer.keep_only(f"build/{name}", {"index.html", "index.json", *logs.files})
        # What nobody knows of any more may have a log, too.
        if asked is None or not self.logs.public:
            self.writer.keep_only("build", known.keys())
        return told

    def stale(self, job_id: str, path: str) -> bool:
        """Return whether the store may know more of a job than a page says."""
        assert self.history is not None  # noqa: S101
        job = self.history.jobs[job_id]
        try:
            written = (self.tree.root / unquote(path) / "index.html").stat().st_mtime
        except FileNotFoundError:
            return True
        return not job.state.ended or written <= max(job.queued_at, job.ended_at or 0.0) + 1

    # -- projects -----------------------------------------------------------------------------------

    def projects(self, asked: Collection[str] | None) -> HomePage:
        """Write the pages of projects, and return the home page that lists them."""
        names = self.tree.recorded()
        old = {} if asked is None else self.old_rows()
        history = self.history or History()
        mine = _by_project(history)
        shelf = Shelf.of(self.tree, self.known_builds())
        rows = []
        for name in names:
            builds = mine.get(name, Builds({}, ()))
            news = any(self.stale(job_id, project_path(name)) for job_id in builds.jobs)
            same = name in old and old[name].downloads == (self.counted.of(name) if self.counted else None)
            if asked is not None and same and name not in asked and not news:
                rows.append(old[name])
                continue
            index = read_project(self.tree, name)
            if index.files:
                rows.append(self.project(index, builds, shelf))
        self.writer.keep_only("project", {row.project for row in rows})
        downloads = self.counted.of_all() if self.counted else None
        return home_page(rows, self.tree.base_url, signed=self.tree.keys.is_file(), downloads=downloads)

    def project(self, index: ProjectIndex, builds: Builds, shelf: Shelf) -> ProjectRow:
        newest = newest_version(index.files)
        about = shelf.about([file for file in index.files if file.version == newest][-1])
        upstream = self.upstream(index.project)
        own = project_path(index.project)
        versions = {file.version for file in index.files}
        # The project's own page comes first, but it links to the others: it is written last.
        for page in reversed(list(project_pages(index, about, upstream, builds, shelf, self.counted))):
            self.page("project.html", page, page.path, own_path=own, status_words=STATUS_WORDS)
        self.writer.keep_only(unquote(own).rstrip("/"), {*versions, "index.html", "index.json"})
        return project_row(index, about, self.counted)

    def upstream(self, project: str) -> Upstream | None:
        path = self.tree.root / "upstream" / f"{project}.json"
        return read_upstream(path.read_bytes()) if path.exists() else None

    def known_builds(self) -> Collection[str]:
        folder = self.tree.root / "build"
        return {path.name for path in folder.iterdir()} if folder.is_dir() else ()

    def old_rows(self) -> dict[str, ProjectRow]:
        """Return the projects as the home page has them now; none if it is of another version of the farm."""
        try:
            page = _HOME.validate_json((self.tree.root / "index.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return {}
        return {row.project: row for row in page.projects}

    # -- downloads, the farm, and the home page -----------------------------------------------------

    def statistics(self, home: HomePage) -> None:
        """Write the page of downloads; where none are counted, there is none."""
        if self.counted is None:
            self.writer.keep_only("statistics", ())
            return
        paths = {row.project: row.path for row in home.projects}
        page = statistics_page(self.counted, paths)
        self.page("statistics.html", page, "statistics/", most=MOST_NAMES)

    def farm(self, nodes: Sequence[Node]) -> None:
        """Write the pages of boards and of the farm's state."""
        if self.history is None:
            return
        self.page("boards.html", boards_page(self.history, nodes, self.logs.paths), "boards/")
        self.page("status.html", status_page(self.history), "status/")

    def home(self, page: HomePage) -> None:
        """Write what lists everything, after everything."""
        self.writer.write("search.json", search_json(page))
        days = len(self.counted.days) if self.counted else 0
        self.page("home.html", page, "", snippets=snippets(page.base_url), counted_days=days)
        updated = newest_time(page.newest) or NEVER
        entries, identity = feed_entries(page), feed_id(page.base_url)
        feed = render(
            "feed.xml", "", farm_pages=False, page=page, entries=entries, feed_id=identity, updated=updated
        )
        self.writer.write("feed.xml", feed)


def _by_project(history: History) -> dict[str, Builds]:
    jobs: dict[str, dict[str, Job]] = {}
    attempts: dict[str, list[Attempt]] = {}
    for job in history.jobs.values():
        jobs.setdefault(job.spec.project, {})[job.job_id] = job
    for attempt in history.attempts:
        attempts.setdefault(attempt.project, []).append(attempt)
    return {name: Builds(found, attempts.get(name, ())) for name, found in jobs.items()}
