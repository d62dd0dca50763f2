from __future__ import annotations

import gzip
import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.index import stats
from farm.index.stats import Client, Counts, Download, State, count, publish, read_agent, read_line, recent

PIP = (
    'pip/26.3 {"ci":null,"cpu":"riscv64","distro":{"id":"trixie","name":"Debian GNU/Linux","version":"13"},'
    '"implementation":{"name":"CPython","version":"3.13.5"},"installer":{"name":"pip","version":"26.3"},'
    '"python":"3.13.5","system":{"name":"Linux","release":"6.12"}}'
)
UV = (
    'uv/0.13.9 {"installer":{"name":"uv","version":"0.13.9","subcommand":["pip","install"]},'
    '"python":"3.12.1","cpu":"x86_64","ci":null}'
)
TODAY = date(2026, 11, 22)
WHEEL = "/packages/pyyaml/pyyaml-6.0.3-1-cp313-cp313-manylinux_2_39_riscv64.whl"


def line(uri: object = WHEEL, agent: object = PIP, **more: object) -> bytes:
    record = {
        "time": "2026-11-22T01:30:00+02:00",
        "method": "GET",
        "uri": uri,
        "status": 200,
        "bytes": 10,
        "completed": "OK",
        "agent": agent,
        **more,
    }
    return json.dumps(record).encode() + b"\n"


def test_a_download_is_read_with_its_day_in_utc() -> None:
    assert read_line(line()) == Download(
        "2026-11-21", "pyyaml", "6.0.3", Client("pip 26.3", "3.13", "riscv64")
    )


@pytest.mark.parametrize(
    ("agent", "client"),
    [
        (UV, Client("uv 0.13", "3.12", "x86_64")),
        ("poetry/2.1.1 CPython/3.13.5 Linux/6.12", Client("poetry 2.1", "3.13")),
        ("pdm/2.22.3 CPython/3.9.2 Linux", Client("pdm 2.22", "3.9")),
        ("pip/9.0.1", Client("pip 9.0")),
        ("Mozilla/5.0 (X11; Linux)", Client()),
        ("curl/8.5.0", Client()),
        ("", Client()),
        ('pip/26.3 {"python": "3.13.0rc1+", "cpu": "toaster"}', Client("pip 26.3", "3.13")),
        ('pip/26.3 {"python": 3, "cpu": ["riscv64"]}', Client("pip 26.3")),
        ('pip/26.3 {"python": "3.13<script>"}', Client("pip 26.3")),
        ('pip/26.3 {"python": "9.99"}', Client("pip 26.3")),
        ("pip/26.3 {" + '"a":{' * 1000, Client("pip 26.3")),
        ("pip/26.3 {", Client("pip 26.3")),
        ("pip/<script>", Client("pip")),
        ("pip/26.3 " + "x" * 9000, Client()),
    ],
)
def test_user_agents_are_believed_as_far_as_they_make_sense(agent: str, client: Client) -> None:
    assert read_agent(agent) == client


@pytest.mark.parametrize(
    "other",
    [
        line("/simple/pyyaml/index.json"),
        line(WHEEL + ".metadata"),
        line("/packages/PyYAML/pyyaml-6-py3-none-any.whl"),
        line("/packages/x/../../etc/passwd.whl"),
        line("/packages/a/a-1.0-py3-none-any.whl\n"),
        line(method="HEAD"),
        line(status=206),
        line(status=404),
        line(completed=""),
        line(time="yesterday"),
        line(time="9999-12-31T23:59:59-23:59"),
        line(time=3),
        line(uri=3),
        line(agent=None),
        b"[]\n",
        b"3\n",
        b"\n",
        b"\xff\xfe\n",
        b"[" * 100_000,
        line()[:50],
    ],
)
def test_everything_else_is_no_download(other: bytes) -> None:
    assert read_line(other) is None


@given(
    st.binary(max_size=300) | st.builds(lambda a, u: line(u, a), st.text(max_size=60), st.text(max_size=60))
)
def test_no_line_is_too_odd(text: bytes) -> None:
    read_line(text)


@given(st.text(max_size=200) | st.builds(lambda rest: f"pip/1.0 {{{rest}", st.text(max_size=100)))
def test_no_agent_brings_a_name_of_its_own(agent: str) -> None:
    client = read_agent(agent)
    assert client.machine == "other" or client.machine in stats._MACHINES
    assert client.python == "other" or client.python[:2] in {"2.", "3."}
    assert client.installer == "other" or client.installer.split()[0] in stats._INSTALLERS


def test_names_are_bounded() -> None:
    counts = Counts()
    for number in range(1000):
        counts.add(Download("2026-01-01", "a", "1", Client(installer=f"pip {number}.1")))
    assert len(counts.installers) == stats.MOST_NAMES + 1
    assert sum(counts.installers.values()) == counts.downloads == 1000


STEPS = st.lists(st.sampled_from(["write", "half", "count", "rotate", "compress", "killed"]), max_size=25)


@given(STEPS)
def test_each_download_is_counted_once_whatever_becomes_of_the_log(steps: list[str]) -> None:
    """Against logrotate as the role sets it up: `create`, `compress`, `delaycompress`."""
    import tempfile  # noqa: PLC0415 - a folder for each example, not for each test

    with tempfile.TemporaryDirectory() as folder:
        log, written, state = Path(folder, "index.log"), 0, State()
        log.touch()
        for step in [*steps, "count"]:
            if step == "write":
                written += 1
                with log.open("ab") as stream:
                    stream.write(line(bytes=written))
            elif step == "half":
                written += 1
                whole = line(bytes=written)
                with log.open("ab") as stream:
                    stream.write(whole[:20])
                    stream.flush()
                    count(log, state)
                    stream.write(whole[20:])
            elif step == "count":
                count(log, state)
                state.save(Path(folder, "state.json"))
            elif step == "killed" and Path(folder, "state.json").exists():
                count(log, State.load(Path(folder, "state.json")))  # and nothing of it was saved
            elif step == "rotate" and log.stat().st_size:
                rotate(log)
        assert state.total.downloads == written
        assert sum(counts.downloads for counts in state.days.values()) == written
        publish(state, Path(folder, "stats"), TODAY)


def rotate(log: Path) -> None:
    """Do what logrotate does with `compress` and `delaycompress`."""
    numbers = [int(path.name.split(".")[2]) for path in log.parent.glob("index.log.*")]
    for number in sorted(numbers, reverse=True):
        plain, packed = log.with_name(f"{log.name}.{number}"), log.with_name(f"{log.name}.{number}.gz")
        if plain.exists():
            log.with_name(f"{log.name}.{number + 1}.gz").write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
        else:
            packed.rename(log.with_name(f"{log.name}.{number + 1}.gz"))
    log.rename(log.with_name(f"{log.name}.1"))
    log.touch()


def test_old_days_go_and_the_total_stays(tmp_path: Path) -> None:
    state = State()
    for day in ("2024-01-01", "2026-11-21", "2026-11-22"):
        state.count(Download(day, "a", "1", Client()))
    publish(state, tmp_path, TODAY)
    state.forget_old_days()
    publish(state, tmp_path, TODAY)
    assert sorted(path.stem for path in (tmp_path / "days").iterdir()) == ["2026-11-21", "2026-11-22"]
    assert json.loads((tmp_path / "total.json").read_text())["downloads"] == 3


DAYS_BACK = st.lists(st.integers(-1, 60), max_size=40)


@given(DAYS_BACK)
def test_the_last_days_are_whole_and_add_up(days_back: list[int]) -> None:
    state = State()
    for number, back in enumerate(days_back):
        day = (TODAY - timedelta(days=back)).isoformat()
        state.count(Download(day, "a" * (number % 2 + 1), "1", Client(python="3.13")))
    lately = recent(state, TODAY)
    within = [back for back in days_back if 1 <= back <= stats.RECENT_DAYS]
    if max(days_back, default=0) < 1:
        assert lately is None, "no day is over since the first count"
        return
    assert lately is not None
    days = lately["days"]
    assert isinstance(days, dict)
    assert list(days) == sorted(days)
    assert max(days) == (TODAY - timedelta(days=1)).isoformat()
    assert len(days) == min(stats.RECENT_DAYS, max(days_back)), "days without a download are there, too"
    assert lately["downloads"] == sum(days.values()) == len(within)
    assert lately["pythons"] == ({"3.13": len(within)} if within else {})


def test_the_last_days_are_published_once_one_is_over(tmp_path: Path) -> None:
    state = State()
    state.count(Download("2026-11-22", "a", "1", Client()))
    publish(state, tmp_path, TODAY)
    assert not (tmp_path / "recent.json").exists()
    publish(state, tmp_path, TODAY + timedelta(days=2))
    lately = json.loads((tmp_path / "recent.json").read_text())
    assert lately["days"] == {"2026-11-22": 1, "2026-11-23": 0}
    assert lately["projects"] == {"a": {"1": 1}}
