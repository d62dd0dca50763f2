"""Prove what a wheel is: file name, content, machine code and job, each verdict with its evidence.

What puts a wheel through all gates is :mod:`farm.verify.judge`. It brings 10 MiB of what reads ELF files: who
only reads verdicts, and holds hundreds of nodes, can do without.
"""

from farm.verify.expect import Allowances, JobExpectation
from farm.verify.model import Gate, Report, Verdict

__all__ = [
    "Allowances",
    "Gate",
    "JobExpectation",
    "Report",
    "Verdict",
]
