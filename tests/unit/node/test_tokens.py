from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.node.tokens import Tokens


def held(path: Path) -> int:
    """How many tokens are in a pipe."""
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        found = os.read(pipe, 1 << 16)
        os.write(pipe, found)
    except BlockingIOError:
        return 0
    finally:
        os.close(pipe)
    return len(found)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_there_are_as_many_tokens_as_the_largest_width_so_far(
    tmp_path_factory: pytest.TempPathFactory, widths: list[int]
) -> None:
    tokens = Tokens(tmp_path_factory.mktemp("tokens"), widths[0])
    try:
        for number, width in enumerate(widths):
            tokens.widen(width)
            most = max(widths[: number + 1])
            # Who speaks make's protocol has one task without a token.
            assert (held(tokens.jobserver), held(tokens.compilers)) == (most - 1, most)
    finally:
        tokens.close()


def test_a_build_that_filled_its_pipes_is_in_nobody_s_way(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path, 1)
    try:
        for path in (tokens.jobserver, tokens.compilers):
            pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(pipe, b"+" * 4096)
            os.close(pipe)
        tokens.widen(5000)
    finally:
        tokens.close()


def test_what_is_there_already_is_no_pipe_of_ours(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "jobserver").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        Tokens(tmp_path, 2)
