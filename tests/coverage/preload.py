"""Imported once by the server that every case's process is forked from."""

from . import measure
from .zoo import cases

__all__ = ["CASES", "measure"]

CASES = cases()
