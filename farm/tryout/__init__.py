"""Does what is hosted still install and import, with the newest pip and with the oldest supported one?"""

from farm.tryout.pips import NEWEST, OLDEST, Pip, pip_of, remove_others
from farm.tryout.report import Report, compared, load, save
from farm.tryout.run import Fate, Tried, newest_wheels, tries

__all__ = [
    "NEWEST",
    "OLDEST",
    "Fate",
    "Pip",
    "Report",
    "Tried",
    "compared",
    "load",
    "newest_wheels",
    "pip_of",
    "remove_others",
    "save",
    "tries",
]
