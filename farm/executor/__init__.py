"""Where builds run: the interface :class:`Executor`, and its implementation over SSH."""

from farm.executor.base import AttemptState, Executor, Launch, NodeFile, Progress, Result

__all__ = ["AttemptState", "Executor", "Launch", "NodeFile", "Progress", "Result"]
