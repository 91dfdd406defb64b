"""The search: from a spec to a Pareto front of pruned models."""

from autoprune.study.front import pareto_front
from autoprune.study.problem import Problem
from autoprune.study.resolution import resolve
from autoprune.study.result import SearchResult
from autoprune.study.search import resume, search
from autoprune.study.stored import read_study

__all__ = ["Problem", "SearchResult", "pareto_front", "read_study", "resolve", "resume", "search"]
