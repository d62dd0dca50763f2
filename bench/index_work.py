"""One piece of work of :mod:`bench.index`, in a process of its own, so that its time and memory are its own.

python -m bench.index_work floor|list|ours|run DIR [...]
"""

from __future__ import annotations

import sys


def floor(folder: str) -> None:
    """Do the least that any index of these wheels does: read, hash, METADATA, sidecars, HTML and JSON.

    Nothing is checked, kept for the next time, compressed, flushed to the disk or put in place in one step.
    """
    import json  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    root = Path(folder)
    for project in sorted((root / "packages").iterdir()):
        anchors, entries = [], []
        for wheel in sorted(project.glob("*.whl")):
            sha256, size, metadata, of_metadata = _read(wheel)
            wheel.with_name(wheel.name + ".metadata").write_bytes(metadata)
            url = f"../../packages/{project.name}/{wheel.name}"
            anchors.append(
                f'<a href="{url}#sha256={sha256}" data-core-metadata="sha256={of_metadata}">{wheel.name}</a>'
            )
            entries.append(
                {
                    "filename": wheel.name,
                    "url": url,
                    "hashes": {"sha256": sha256},
                    "size": size,
                    "core-metadata": {"sha256": of_metadata},
                }
            )
        pages = root / "simple" / project.name
        pages.mkdir(parents=True)
        (pages / "index.html").write_text("<!DOCTYPE html>" + "<br>\n".join(anchors))
        content = {"meta": {"api-version": "1.4"}, "name": project.name, "files": entries}
        (pages / "index.json").write_text(json.dumps(content))


def package_list(folder: str) -> None:
    """Write what dumb-pypi wants to be told of each wheel, as JSON, and the METADATA beside it."""
    import json  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    root = Path(folder)
    with (root / "list.json").open("w") as out:
        for project in sorted((root / "packages").iterdir()):
            for wheel in sorted(project.glob("*.whl")):
                out.write(json.dumps(line_of(wheel)) + "\n")


def line_of(wheel: object) -> dict[str, object]:
    """Return dumb-pypi's line of a wheel, having written its METADATA beside it."""
    from email.parser import HeaderParser  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    path = Path(str(wheel))
    sha256, _, metadata, of_metadata = _read(path)
    path.with_name(path.name + ".metadata").write_bytes(metadata)
    fields = HeaderParser().parsestr(metadata.decode())
    return {
        "filename": path.name,
        "hash": f"sha256={sha256}",
        "requires_python": fields["Requires-Python"],
        "requires_dist": fields.get_all("Requires-Dist") or [],
        "core_metadata": f"sha256={of_metadata}",
        "upload_timestamp": int(path.stat().st_mtime),
    }


def _read(wheel: object) -> tuple[str, int, bytes, str]:
    import hashlib  # noqa: PLC0415
    import io  # noqa: PLC0415
    import zipfile  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    data = Path(str(wheel)).read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name)
    return hashlib.sha256(data).hexdigest(), len(data), metadata, hashlib.sha256(metadata).hexdigest()


def ours(folder: str, *projects: str) -> None:
    """Build the farm's index."""
    from pathlib import Path  # noqa: PLC0415

    from farm.index import IndexTree, build_index  # noqa: PLC0415

    build_index(IndexTree(Path(folder)), projects or None)


def run(folder: str, *command: str) -> None:
    """Run a command in a folder; print its seconds, seconds of processor, and MiB of memory."""
    import os  # noqa: PLC0415
    import time  # noqa: PLC0415

    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.dup2(2, 1)
        os.execv(command[0], command)  # noqa: S606
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - began
    sys.stdout.write(f"[{wall}, {usage.ru_utime + usage.ru_stime}, {usage.ru_maxrss / 1024}]\n")
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    # What is measured is imported where it is used: nobody pays for another's modules.
    {"floor": floor, "list": package_list, "ours": ours, "run": run}[sys.argv[1]](*sys.argv[2:])
