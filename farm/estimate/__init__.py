"""How much work a build is expected to be: learnt where it was built before, guessed where it was not."""

from __future__ import annotations

from farm.estimate.cold import Giant, cold_estimate, giants
from farm.estimate.features import Language, SdistFeatures, read_features
from farm.estimate.learn import Knowledge, Observation

__all__ = [
    "Giant",
    "Knowledge",
    "Language",
    "Observation",
    "SdistFeatures",
    "cold_estimate",
    "giants",
    "read_features",
]
