"""When an sdist that could not be had is asked for again."""

from __future__ import annotations

from farm.dispatch.sources import TRIES, again_s
from farm.errors import FarmError, HashMismatchError, UpstreamError


def test_f23_an_index_may_announce_what_is_not_there_yet() -> None:
    waits = [again_s(UpstreamError("404"), tries) for tries in range(1, TRIES + 1)]
    assert waits[-1] is None, "not for ever"
    numbers = [wait for wait in waits if wait is not None]
    assert numbers == sorted(set(numbers)), "longer each time"
    assert sum(numbers) >= 30


def test_other_bytes_are_not_asked_for_twice() -> None:
    assert again_s(HashMismatchError("demo", expected="a", actual="b"), 1) is None
    assert again_s(FarmError("disk full"), 1) is None
