"""The database's tables, and how an older farm's database becomes today's."""

from __future__ import annotations

import sqlite3
from typing import Final

# One step a version of the farm that changed the tables; `user_version` says how many were taken.
STEPS: Final = (
    """
    CREATE TABLE IF NOT EXISTS job (
        job_id TEXT PRIMARY KEY,
        spec TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        node TEXT,
        failure TEXT,
        message TEXT NOT NULL DEFAULT '',
        queued_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        wheel TEXT,
        wheel_sha256 TEXT
    ) STRICT;
    CREATE TABLE IF NOT EXISTS attempt (
        job_id TEXT NOT NULL REFERENCES job,
        attempt INTEGER NOT NULL,
        node TEXT NOT NULL,
        leased_at REAL NOT NULL,
        ended_at REAL,
        failure TEXT,
        result TEXT,
        PRIMARY KEY (job_id, attempt)
    ) STRICT;
    """,
    """
    ALTER TABLE job ADD COLUMN width INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE job ADD COLUMN cancelling INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE attempt ADD COLUMN width INTEGER NOT NULL DEFAULT 1;
    CREATE INDEX attempt_by_time ON attempt (leased_at);
    CREATE TABLE node_mark (
        node TEXT NOT NULL,
        mark TEXT NOT NULL,
        reason TEXT NOT NULL,
        since REAL NOT NULL,
        PRIMARY KEY (node, mark)
    ) STRICT;
    CREATE TABLE run (
        number INTEGER PRIMARY KEY,
        policy TEXT NOT NULL,
        began_at REAL NOT NULL,
        ended_at REAL,
        nodes TEXT NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE job ADD COLUMN proved_with TEXT NOT NULL DEFAULT '[]';
    UPDATE job SET spec = json_set(spec, '$.recipe.known_failures', json((
        SELECT json_group_array(json_object('versions', '', 'tests', json_array(key), 'reason', value))
        FROM json_each(spec, '$.recipe.known_failures')
    ))) WHERE json_type(spec, '$.recipe.known_failures') = 'object';
    """,
    """
    ALTER TABLE job ADD COLUMN widened TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE attempt ADD COLUMN widened TEXT NOT NULL DEFAULT '[]';
    """,
)


def migrate(db: sqlite3.Connection) -> None:
    """Bring a database to the newest tables; safe when two processes open it at once."""
    if _version(db) == len(STEPS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[_version(db) :]:
            for statement in filter(None, map(str.strip, step.split(";"))):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(STEPS)}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
