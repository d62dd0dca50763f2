"""Which Debian package has a library."""

from __future__ import annotations

from farm.verify.debian import chosen, libraries

CONTENTS = """\
usr/lib/riscv64-linux-gnu/libnuma.so                    libdevel/libnuma-dev
usr/lib/riscv64-linux-gnu/libnuma.so.1                  libs/libnuma1
usr/lib/riscv64-linux-gnu/openblas-openmp/libopenblas.so.0 libs/libopenblas0-openmp
usr/lib/riscv64-linux-gnu/openblas-pthread/libopenblas.so.0 libs/libopenblas0-pthread
usr/lib/riscv64-linux-gnu/private/libnuma.so.1          contrib/libs/other
usr/lib/libshared.so.2                                  libs/one,non-free/libs/two
usr/lib/python3/dist-packages/a/libnuma.so.1            python/python3-a
usr/share/doc/with space.so.1                           doc/x
"""


def test_packages_of_libraries() -> None:
    assert chosen(libraries(CONTENTS.splitlines())) == {
        "libnuma.so.1": "libnuma1",
        "libopenblas.so.0": "libopenblas0-openmp | libopenblas0-pthread",
        "libshared.so.2": "one | two",
    }


def test_lines_that_are_no_contents() -> None:
    assert chosen(libraries(["", "\n", "no-space.so", "usr/lib/x.so.1 "])) == {}
