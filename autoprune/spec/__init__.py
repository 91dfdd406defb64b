"""Specs: YAML text to frozen data, with every error at its line and column."""

from autoprune.spec.document import Document
from autoprune.spec.mistakes import mistakes_of, near, nearest, parse
from autoprune.spec.model import Bound, GroupRange, RatioRange, Search, SearchSpace, Spec, Tracking
from autoprune.spec.reader import read_document, read_text
from autoprune.spec.writer import write_text

__all__ = [
    "Bound",
    "Document",
    "GroupRange",
    "RatioRange",
    "Search",
    "SearchSpace",
    "Spec",
    "Tracking",
    "mistakes_of",
    "near",
    "nearest",
    "parse",
    "read_document",
    "read_text",
    "write_text",
]
