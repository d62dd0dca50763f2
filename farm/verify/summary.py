"""What several verdicts have in common, in one line (pure)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from farm.verify.model import counted

_HEAD_END: Final = re.compile("[:,]")


def in_one_line(evidence: Sequence[str]) -> str:
    """Return how the evidence of several files begins, and of how many; that of one as it is."""
    if len(evidence) == 1:
        return evidence[0]
    heads = Counter(_HEAD_END.split(text)[0] for text in evidence)
    return ", ".join(f"{counted(count, 'file')} {head}" for head, count in heads.most_common())
