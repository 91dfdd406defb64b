"""Every error autoprune raises on purpose.

* AutopruneError
  * SpecError            the spec (or a command-line argument) is wrong; carries every mistake at once
  * PluginError          a plugin cannot be loaded, clashes with another or breaks its contract
  * StructureError       the model cannot be traced, or a cut cannot be made
  * DataError            a model's or data source's files are missing or malformed
  * StudyError           a study cannot be created, found or continued
  * TrackingError        MLflow cannot be reached, or does not take what it is sent
  * TrialError           one trial failed; the study records the reason and goes on
  * NoFeasibleTrialError the study ended without one feasible trial
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

_MOST_TOLD = 100


def dotted(path: Sequence[str | int]) -> str:
    """A path as a user writes it in ``--set``: ``search_space.groups."layer1.*".high``."""
    return ".".join(f'"{part}"' if set(str(part)) & set(".= ") else str(part) for part in path)


def shown(text: str) -> str:
    """A text for a terminal: control characters, which it would obey, are escaped; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with a spec, where it stands and how to mend it."""

    path: tuple[str | int, ...]
    """Keys from the root of the document, e.g. ``("search", "sampler", "use")``."""
    message: str
    file: str = "<spec>"
    line: int = 1
    """From 1; 0 for what stands in no file."""
    column: int = 1

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        line = f"{where}: {dotted(self.path) or 'spec'}: {self.message}"
        return shown(" ".join(line.splitlines()))


class AutopruneError(Exception):
    """Base of all errors a user or plugin author can cause; shown as one clear message, without a traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(shown(arg) if isinstance(arg, str) else arg for arg in args))


class SpecError(AutopruneError):
    """The spec is wrong. ``mistakes`` holds every mistake found, in the order of the file; a hundred are told."""

    exit_code = 2

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda p: (p.line, p.column)))
        told = [str(mistake) for mistake in self.mistakes[:_MOST_TOLD]]
        more = len(self.mistakes) - len(told)
        super().__init__("\n".join([*told, *([f"and {more:,} more mistakes"] if more else [])]))


class PluginError(AutopruneError):
    """A plugin cannot be loaded, clashes with another one or breaks its contract."""

    exit_code = 3


class StructureError(AutopruneError):
    """The model cannot be traced, or a cut cannot be made."""

    exit_code = 2


class DataError(AutopruneError):
    """The files that a model or data source names are missing or malformed."""

    exit_code = 2


class StudyError(AutopruneError):
    """A study cannot be created, found or continued."""

    exit_code = 2


class TrackingError(AutopruneError):
    """MLflow is not installed, cannot be reached or does not take what it is sent."""


class TrialError(AutopruneError):
    """One trial failed. The study records the reason and goes on."""


class NoFeasibleTrialError(AutopruneError):
    """The study ended without one feasible trial."""

    exit_code = 4
