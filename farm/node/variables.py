"""The variables of a build: one locale, no paths in the output, caches that belong to one project."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from farm.node import units
from farm.node.places import WRAPPERS, Places
from farm.node.process import MARK
from farm.node.sandbox import write_new
from farm.node.tokens import Tokens

# What asks for a number of tasks once and for all, and not told one takes one for each core of the board:
# crates' build scripts (NUM_JOBS, which cargo makes of this), Go, OpenMP and `nproc`.
FIXED = ("CARGO_BUILD_JOBS", "GOMAXPROCS", "OMP_NUM_THREADS")
# What starts that many compilers: numpy.distutils and grpcio's setup.py. Their wrapper counts better.
COMPILING = ("NPY_NUM_BUILD_JOBS", "GRPC_PYTHON_BUILD_EXT_COMPILER_JOBS")
# What tells make or ninja a number: CMake and torch's extensions. Untold, these two ask the jobserver.
TELLING = ("CMAKE_BUILD_PARALLEL_LEVEL", "MAX_JOBS")
CACHE_TIMEOUT_S = "180"
CCACHE_SIZE = "500M"
# What a path of the build is called in the output: the same on every board and in every attempt.
OUTPUT_ROOT = "/build"
# What a build gets of the session's variables: nothing that may be a secret, or lead to a service.
KEPT = re.compile(rf"{units.PASSED.pattern}|USER|LOGNAME|SHELL|QEMU_[A-Z_]+|{MARK}")
# Told that there is no network, these fail at once and say so, instead of trying again and again.
OFFLINE = {"CARGO_NET_OFFLINE": "true", "UV_OFFLINE": "1", "PIP_RETRIES": "0"}


def variables(
    places: Places,
    *,
    width: int,
    cores: int,
    tokens: Tokens,
    jobserver: bool,
    epoch: int,
    debug: bool,
    constraints: Path | None,
    distcc_hosts: str,
    own: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment of a build's commands.

    Args:
        places: the build's folders.
        width: parallel tasks, as the build begins.
        cores: of the board; more tasks there will never be.
        tokens: how many tasks there may be at each moment.
        jobserver: whether the board's make is new enough to ask for them.
        epoch: SOURCE_DATE_EPOCH (reproducible-builds.org), in seconds.
        debug: whether debug information is wanted.
        constraints: file of version limits for build requirements, if there are any.
        distcc_hosts: DISTCC_HOSTS, or empty.
        own: what the recipe adds.
    """
    # LC_ALL is set below; what else a login says of its locale would only differ from board to board.
    passed = (name for name in os.environ if KEPT.fullmatch(name) and not name.startswith("LC_"))
    result = {name: os.environ[name] for name in passed}
    result |= {
        "PATH": places.search_path(places.tools),
        "HOME": str(places.work / "home"),
        "TMPDIR": str(places.work / "tmp"),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "SOURCE_DATE_EPOCH": str(epoch),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_CACHE_DIR": str(places.cache / "uv"),
        "UV_NO_PROGRESS": "1",
        "UV_SYSTEM_CERTS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        **_tasks(width, cores, tokens, jobserver=jobserver),
        "CARGO_HOME": str(places.cache / "cargo"),
        "FARM_COMPILED": str(places.compiled),
        **_compiling(places, debug=debug, distcc_hosts=distcc_hosts),
    }
    if constraints is not None:
        # The first is for uv and its builds of build requirements, the others for a build that calls pip.
        for name in ("UV_BUILD_CONSTRAINT", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):
            result[name] = str(constraints)
    return result | dict(own)


def _tasks(width: int, cores: int, tokens: Tokens, *, jobserver: bool) -> dict[str, str]:
    """Return what says how many tasks there may be: tokens, which can become more, where they are known."""
    fixed = FIXED if jobserver else (*FIXED, *TELLING)
    return {
        "MAKEFLAGS": tokens.makeflags(cores) if jobserver else f"-j{width}",
        "CARGO_MAKEFLAGS": tokens.makeflags(cores),
        "FARM_COMPILERS": str(tokens.compilers),
        **dict.fromkeys(fixed, str(width)),
        **dict.fromkeys(COMPILING, str(cores)),
    }


def _compiling(places: Places, *, debug: bool, distcc_hosts: str) -> dict[str, str]:
    # Flags go through the wrapper and not through CFLAGS: setuptools since 84 lets CFLAGS replace what the
    # interpreter was built with, and a project would silently be compiled without -O2.
    flags = f"-ffile-prefix-map={places.work}={OUTPUT_ROOT}"
    rust_flags = (
        f"--remap-path-prefix={places.work}={OUTPUT_ROOT} --remap-path-prefix={places.cache}={OUTPUT_ROOT}"
    )
    result = {
        "FARM_CC_FLAGS": f"{flags} -g" if debug else f"{flags} -g0",
        "FARM_RUSTC_FLAGS": rust_flags,
        "FARM_LAUNCHER": "",
        "FARM_RUSTC_LAUNCHER": "",
        "RUSTC_WRAPPER": str(WRAPPERS / "rustc"),
        "CARGO_PROFILE_RELEASE_DEBUG": "1" if debug else "0",
    }
    if ccache := shutil.which("ccache", path="/usr/bin"):
        result |= {
            "FARM_LAUNCHER": ccache,
            "CCACHE_DIR": str(places.cache / "ccache"),
            "CCACHE_BASEDIR": str(places.work),
            "CCACHE_NOHASHDIR": "1",
            "CCACHE_MAXSIZE": CCACHE_SIZE,
        }
    if sccache := shutil.which("sccache", path="/usr/bin"):
        result |= {
            "FARM_RUSTC_LAUNCHER": sccache,
            "SCCACHE_DIR": str(places.cache / "sccache"),
            "SCCACHE_CACHE_SIZE": CCACHE_SIZE,
            # A server for this build alone, which ends with it: see Build.places.
            "SCCACHE_SERVER_UDS": str(places.sccache),
            "SCCACHE_IDLE_TIMEOUT": "600",
        }
    if distcc_hosts:
        result |= {"DISTCC_HOSTS": distcc_hosts, "DISTCC_DIR": str(places.work / "distcc")}
        # A helper sees preprocessed text; what is compiled here, too, so that both give the same bytes.
        result["FARM_CC_FLAGS"] += " -no-integrated-cpp"
        result |= {"CCACHE_PREFIX": "distcc"} if ccache else {"FARM_LAUNCHER": "distcc"}
    return result


def without_proxies(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables without the addresses of proxies, which may hold a password."""
    return {name: value for name, value in variables.items() if not name.lower().endswith("_proxy")}


def uses_download_cache(url: str, cargo_home: Path) -> dict[str, str]:
    """Return the variables that send pip and uv to the farm's download cache, and write cargo's setting."""
    cargo_home.mkdir(parents=True, exist_ok=True)
    # Always written anew: a build may have left settings of its own there, or a link.
    lines = (
        '[source.crates-io]\nreplace-with = "farm"\n\n'
        f'[source.farm]\nregistry = "sparse+{url}/crates/index/"\n'
    )
    (cargo_home / "config").unlink(missing_ok=True)
    write_new(cargo_home / "config.toml", lines if url else "")
    if not url:
        return {}
    index = f"{url}/pypi/simple/"
    return {
        "UV_DEFAULT_INDEX": index,
        "PIP_INDEX_URL": index,
        # It is plain HTTP inside the farm's own network; what it serves is checked by hash.
        "PIP_TRUSTED_HOST": urlsplit(url).netloc,
        # Who asks for a file that is just being fetched waits for it without a byte.
        "UV_HTTP_TIMEOUT": CACHE_TIMEOUT_S,
        "PIP_DEFAULT_TIMEOUT": CACHE_TIMEOUT_S,
        "CARGO_HTTP_TIMEOUT": CACHE_TIMEOUT_S,
    }
