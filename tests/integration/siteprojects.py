"""The projects that the farm of sitekit has built: what a real farm's index would have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from farm.recipe import DEFAULT, Recipe

RTL: Final = "\u202e"
EVIL: Final = f"<script>alert(1)</script><img src=x onerror=alert(2)> \"'&amp;{RTL}"


@dataclass(frozen=True)
class Made:
    """One project of the kit: its versions, for which Pythons, how long a build takes (minutes), metadata."""

    name: str
    versions: tuple[str, ...]
    minutes: float
    summary: str
    pythons: tuple[str, ...] = ("cp311", "cp312", "cp313", "cp314")
    metadata: str = ""
    recipe: Recipe = DEFAULT
    abi3: bool = False


PROJECTS: Final = (
    Made(
        "markupsafe",
        ("3.0.2", "3.0.3", "3.0.4"),
        0.4,
        "Safely add untrusted strings to HTML/XML markup.",
        metadata="License-Expression: BSD-3-Clause\n"
        "Project-URL: Source, https://github.com/pallets/markupsafe/\n"
        "Project-URL: Chat, https://discord.gg/pallets\n",
    ),
    Made(
        "pyyaml",
        ("6.0.2", "6.0.3"),
        0.9,
        "YAML parser and emitter for Python",
        metadata="License: MIT\nHome-page: https://pyyaml.org/\n",
        recipe=Recipe(
            reason="libyaml's parser is ten times as fast as the one in Python", apt_packages=["libyaml-dev"]
        ),
    ),
    Made(
        "numpy",
        ("2.3.5", "2.4.0rc1", "2.4.0"),
        74,
        "Fundamental package for array computing in Python",
        pythons=("cp312", "cp313", "cp314", "cp314t"),
        metadata="License-Expression: BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0\n"
        "Project-URL: homepage, https://numpy.org\n"
        "Project-URL: documentation, https://numpy.org/doc/\n",
    ),
    Made(
        "cryptography",
        ("46.0.3", "47.0.0"),
        31,
        "cryptography is a package which provides cryptographic recipes and primitives to Python developers.",
        pythons=("cp311",),
        abi3=True,
        recipe=Recipe(
            reason="it is linked against the system's OpenSSL", apt_packages=["libssl-dev", "pkg-config"]
        ),
    ),
    Made(
        "lxml",
        ("6.1.2", "6.1.3"),
        12,
        "Powerful and Pythonic XML processing library combining libxml2/libxslt with the ElementTree API.",
        recipe=Recipe(reason="the system's libxml2", apt_packages=["libxml2-dev", "libxslt1-dev"]),
    ),
    Made(
        "pillow",
        ("12.0.0",),
        8,
        "Python Imaging Library (fork)",
        recipe=Recipe(
            reason="image formats",
            apt_packages=["libjpeg62-turbo-dev", "zlib1g-dev"],
            system_libraries={"libraqm.so.0": "complex text layout is loaded when it is asked for"},
        ),
    ),
    Made(
        "orjson",
        ("3.12.0", "3.12.1"),
        6.5,
        "Fast, correct Python JSON library supporting dataclasses, datetimes, and numpy",
    ),
    Made("greenlet", ("3.5.6",), 1.2, "Lightweight in-process concurrent programming"),
    Made("zope-interface", ("8.1",), 0.8, "Interfaces for Python"),
    Made(
        "backports-datetime-fromisoformat",
        ("2.0.3",),
        0.3,
        "Backport of Python 3.11's datetime.fromisoformat",
        pythons=("cp310",),
    ),
    Made(
        "opentelemetry-instrumentation-system-metrics-native-collector",
        ("0.60.0.post20261119+build.7",),
        0.5,
        "OpenTelemetry System Metrics Instrumentation with a collector that is compiled, so that what is"
        " measured is not what measures it",
        pythons=("cp313",),
    ),
    Made(
        "hostile",
        ("1.0",),
        0.2,
        EVIL,
        pythons=("cp313",),
        metadata=f"License: {EVIL}\nProject-URL: click, javascript:alert(3)\n"
        f"Project-URL: {EVIL}, https://example.org/?{EVIL.replace(' ', '').rstrip(RTL)}\n"
        "Project-URL: fine, https://example.org/fine\n"
        "Home-page: data:text/html,<script>alert(4)</script>\n",
    ),
)
