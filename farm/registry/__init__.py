"""Other registries that take wheels by the protocol of PyPI's upload API (GitLab, devpi, PyPI, ...)."""

from farm.registry.config import Registry, find, registries_of
from farm.registry.token import token_of
from farm.registry.upload import Fate, Sent, upload

__all__ = ["Fate", "Registry", "Sent", "find", "registries_of", "token_of", "upload"]
