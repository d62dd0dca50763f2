from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.cleanroom.install import installed, pip_command, refusal

INDEX = "http://192.0.2.30:8080/simple/"


@pytest.mark.parametrize(
    ("output", "room", "evidence", "hint"),
    [
        (
            "ERROR: No matching distribution found for numpy>=2\n",
            False,
            f"pip: no wheel for numpy>=2 on {INDEX}",
            "farm dispatch 'numpy>=2'",
        ),
        (
            "WARNING: Retrying (Retry(total=4))\nERROR: No matching distribution found for numpy\n",
            True,
            "can't be reached",
            "index is up",
        ),
        (
            "ERROR: Could not install packages: [Errno 28] No space left on device\n",
            True,
            "disk is full",
            "free",
        ),
        (
            "ERROR: demo-1.0-cp312-cp312-linux_x86_64.whl is not a supported wheel on this platform.\n",
            False,
            "demo-1.0-cp312-cp312-linux_x86_64.whl is not a supported wheel",
            "tags",
        ),
        (
            "ERROR: Package 'demo' requires a different Python: 3.13.5 not in '<3.12'\n",
            False,
            "<3.12",
            "Requires",
        ),
        (
            "The conflict is caused by:\n    b 1.1 depends on c>=2\n    b 1.0 depends on c>=2\n\nERROR: ",
            False,
            f"pip: no wheel for c>=2 on {INDEX}",
            "farm dispatch 'c>=2'",
        ),
        (
            "ERROR: ResolutionImpossible: for help visit https://example.org\n",
            False,
            "ResolutionImpossible",
            "log",
        ),
        ("", False, "without a message", "log"),
    ],
)
def test_who_is_at_fault_when_pip_fails(output: str, room: bool, evidence: str, hint: str) -> None:
    refused = refusal(output, INDEX)
    assert refused.room is room
    assert evidence in refused.evidence
    assert hint in refused.hint


@given(st.text())
def test_any_output_has_a_reason_on_one_line(output: str) -> None:
    assert refusal(output, INDEX).evidence


def test_only_wheels_are_installed_and_plain_http_is_trusted() -> None:
    command = pip_command("demo.whl", ["pytest"], INDEX)
    assert "--only-binary=:all:" in command
    assert command[command.index("--trusted-host") + 1] == "192.0.2.30"
    assert "--trusted-host" not in pip_command("demo.whl", [], "https://pypi.org/simple/")


def test_what_pip_installed_is_read_from_its_last_words() -> None:
    assert installed("Installing...\nSuccessfully installed a-1 b-2\n") == "a-1 b-2"
