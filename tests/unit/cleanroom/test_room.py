from __future__ import annotations

from pathlib import Path

import pytest

from farm.cleanroom import CleanRoom, NoPythonError, RoomError
from farm.cleanroom.sandbox import Inside, Limits, Mount, walled
from farm.cleanroom.watch import Ended, Stop
from farm.wheel_name import parse_name

LIMITS = Limits(60, memory_bytes=1 << 30, tasks=100)
NATIVE = "demo-1.0-{}-manylinux_2_39_riscv64.whl"


@pytest.fixture
def room(tmp_path: Path) -> CleanRoom:
    userland = tmp_path / "userland"
    for program in (
        "usr/bin/python3.13",
        "opt/wheelfarm/python/1/bin/python3.9",
        "opt/wheelfarm/python/2/bin/python3.12",
        "opt/wheelfarm/python/2/bin/python3.12-config",
        "usr/bin/python3",
    ):
        (userland / program).parent.mkdir(parents=True, exist_ok=True)
        (userland / program).touch()
    return CleanRoom(userland, tmp_path / "work")


def test_its_pythons_are_known_newest_first(room: CleanRoom) -> None:
    assert list(room.pythons().items()) == [
        ("cp313", "/usr/bin/python3.13"),
        ("cp312", "/opt/wheelfarm/python/2/bin/python3.12"),
        ("cp39", "/opt/wheelfarm/python/1/bin/python3.9"),
    ]


@pytest.mark.parametrize(
    ("tags", "wanted", "python"),
    [
        ("cp313-cp313", "", "cp313"),
        ("cp312-cp312", "", "cp312"),
        ("cp39-abi3", "", "cp313"),
        ("cp39-abi3", "cp312", "cp312"),
        ("py3-none", "cp39", "cp39"),
    ],
)
def test_a_wheel_is_tried_with_the_python_it_is_for(
    room: CleanRoom, tags: str, wanted: str, python: str
) -> None:
    assert room.python_for(parse_name(NATIVE.format(tags)), wanted)[0] == python


@pytest.mark.parametrize(
    ("tags", "wanted"), [("cp311-cp311", ""), ("cp312-cp312", "cp313"), ("cp310-abi3", "cp39")]
)
def test_a_python_that_is_not_there_is_named_and_the_fix(room: CleanRoom, tags: str, wanted: str) -> None:
    with pytest.raises(NoPythonError) as caught:
        room.python_for(parse_name(NATIVE.format(tags)), wanted)
    assert (wanted or tags) in caught.value.message
    assert "cp313, cp312, cp39" in caught.value.message
    assert "clean_room_pythons" in caught.value.hint


def test_no_room_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RoomError) as caught:
        CleanRoom.at(tmp_path).check()
    assert "playbooks/controller.yml" in caught.value.hint


def test_the_network_is_there_only_where_it_is_asked_for() -> None:
    for network in (False, True):
        command = walled(Inside(["x"], "rv64", LIMITS, network=network), Path("/u"), drop_to=None)
        assert ("--share-net" in command) is network
        assert "--unshare-all" in command
        assert "--clearenv" in command


def test_what_is_mounted_can_be_written_only_where_it_is_said() -> None:
    mounts = [Mount(Path("/a"), "/room/a"), Mount(Path("/b"), "/room/b", writable=True)]
    command = walled(Inside(["x"], "rv64", LIMITS, mounts), Path("/u"), drop_to=None)
    binds = [(word, command[at + 1]) for at, word in enumerate(command) if word in {"--bind", "--ro-bind"}]
    assert binds == [("--ro-bind", "/u"), ("--ro-bind", "/a"), ("--bind", "/b")]


def test_root_is_dropped_before_anything_else() -> None:
    command = walled(Inside(["x"], "rv64", LIMITS), Path("/u"), drop_to=(5, 6))
    assert command[:3] == ["setpriv", "--reuid=5", "--regid=6"]


def test_an_environment_can_not_choose_the_processor() -> None:
    program = Inside(["x"], "sifive-u54", LIMITS, environment={"QEMU_CPU": "max"})
    command = walled(program, Path("/u"), drop_to=None)
    assert command[command.index("QEMU_CPU") + 1] == "sifive-u54"
    assert "max" not in command


@pytest.mark.parametrize(
    ("code", "stop", "words"),
    [
        (132, None, "died of SIGILL"),
        (139, None, "died of SIGSEGV"),
        (1, None, "ended with code 1"),
        (255, None, "ended with code 255"),
        (137, Stop.MEMORY, "more than 1024 MiB of memory"),
        (137, Stop.TIME, "not done after 60 s"),
        (137, Stop.TASKS, "more than 100 processes"),
    ],
)
def test_how_a_program_ended_is_said_in_words(code: int, stop: Stop | None, words: str) -> None:
    assert words in Ended(code, stop, 1.0, "").why(LIMITS)
