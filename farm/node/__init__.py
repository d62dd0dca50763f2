"""The part of the farm that runs on a board: standard library only, but for pyproject_hooks.

The role ``node_runner`` installs this folder under a digest of its content and links ``farm-node`` to it.
"""

VERSION = 7
