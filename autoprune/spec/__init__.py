"""Specs: YAML text to frozen data, with every error at its line and column."""

from autoprune.spec.document import Document
from autoprune.spec.model import Bound, GroupRange, RatioRange, Search, SearchSpace, Spec, Tracking

__all__ = ["Bound", "Document", "GroupRange", "RatioRange", "Search", "SearchSpace", "Spec", "Tracking"]
