from __future__ import annotations

from pathlib import Path

import pytest

from farm.node.forward import ways


@pytest.mark.parametrize(
    ("host", "reached", "called"),
    [
        ("192.0.2.40", "tcp:192.0.2.40:3632", "127.0.0.1:3700"),
        ("192.0.2.40:4000/8,lzo", "tcp:192.0.2.40:4000", "127.0.0.1:3700/8,lzo"),
        ("helper-1.example,lzo", "tcp:helper-1.example:3632", "127.0.0.1:3700,lzo"),
        ("127.0.0.1:3632/16,lzo", "tcp:127.0.0.1:3632", "127.0.0.1:3700/16,lzo"),
    ],
)
def test_there_is_a_way_to_each_helper_by_a_socket_of_the_build(host: str, reached: str, called: str) -> None:
    inside, outside, names = ways([host], Path("/work"))
    assert inside == ["tcp:127.0.0.1:3700", "unix:/work/helper0"]
    assert outside == ["unix:/work/helper0", reached]
    assert names == [called]


def test_what_is_no_address_needs_none() -> None:
    assert ways(["localhost", "localhost/2", "--randomize", "@ssh-host"], Path("/work")) == ([], [], [])


def test_helpers_are_told_apart() -> None:
    inside, outside, names = ways(["a/4", "b/4"], Path("/w"))
    assert len({*inside, *outside}) == 6
    assert names == ["127.0.0.1:3700/4", "127.0.0.1:3701/4"]
