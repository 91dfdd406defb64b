"""What Optuna's storage holds of a study, to be read. Its keys in the user attributes of study and trials are here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from autoprune.errors import StudyError
from autoprune.plugin import Measured, TrialResult
from autoprune.spec import Spec
from autoprune.spec.secrets import hint_of, masked
from autoprune.study.front import Finals
from autoprune.study.jobs import Probed
from autoprune.study.journal import Journal
from autoprune.study.proposal import Precision, Proposal
from autoprune.toolkit.files import malformed, plain_file

RESULT, ORIGIN, PROBE, PRECISION = "autoprune:result", "autoprune:origin", "autoprune:probe:", "autoprune:precision"
SETTLED, PART = "autoprune:settled:", "autoprune:part"
TEST, WHOLE_TEST, TOGETHER = "autoprune:test:", "autoprune:whole-test:", "autoprune:together:"
STATES = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL, "rejected": TrialState.PRUNED}


class StoredStudy:
    """A study's results, to be read."""

    def __init__(self, name: str, *, spec: Spec, journal: Path, mode: Literal["create", "continue", "read"]) -> None:
        """Open it.

        Args:
            name: In the storage.
            spec: Gives the storage and the objectives.
            journal: File to keep the study in, where the spec names no storage.
            mode: ``create`` wants no study of that name to be there, ``read`` wants one and leaves it as it is.

        Raises:
            StudyError: The storage cannot be opened, or does not hold what the mode wants.
        """
        self._wanted = set(spec.objectives)
        self._journal: Journal | None = None
        """Where the study is kept in a file that this session writes."""
        with quiet():
            if spec.search.storage is not None:
                self._storage = _open(spec.search.storage, spec.document.folder)
            elif mode == "read":
                self._storage = _read_only(journal)
            else:
                self._journal = Journal(journal)
                self._storage = JournalStorage(self._journal)
            try:
                if mode == "read":
                    self._study = optuna.load_study(study_name=name, storage=self._storage)
                else:
                    directions = list(spec.objectives.values())
                    self._study = optuna.create_study(
                        study_name=name, storage=self._storage, directions=directions, load_if_exists=mode == "continue"
                    )
            except optuna.exceptions.DuplicatedStudyError:
                raise StudyError(
                    f"the storage has a study called {name!r} already; give another `output:`, or continue that study "
                    "with `autoprune resume` and its folder"
                ) from None
            except KeyError:
                raise StudyError(f"the storage has no study called {name!r}") from None
            except Exception as error:
                if spec.search.storage is not None:
                    raise
                raise StudyError(f"{journal} is damaged: {malformed(error)}") from error

    def close(self) -> None:
        """Let go of the storage's connections."""
        if isinstance(self._storage, RDBStorage):
            self._storage.remove_session()
            self._storage.engine.dispose()
        if self._journal is not None:
            self._journal.close()

    @property
    def results(self) -> list[TrialResult]:
        """Of every finished trial, by number."""
        with self._whole():
            return [
                self._checked(result)
                for trial in self._trials(*STATES.values())
                if (result := result_of(trial)) is not None
            ]

    @property
    def finals(self) -> Finals:
        """What became of the front's members."""
        with self._whole():
            part: list[int] | None = self._study.user_attrs.get(PART)
            settled = {n: made and self._checked(TrialResult.model_validate(made)) for n, made in self._kept(SETTLED)}
            return Finals(
                settled=settled,
                tests={number: _measured(metrics) for number, metrics in self._kept(TEST)},
                whole_tests={number: _measured(metrics) for number, metrics in self._kept(WHOLE_TEST)},
                together={
                    key.removeprefix(TOGETHER): (tuple(map(int, kept["numbers"])), _measured(kept["metrics"]))
                    for key, kept in self._study.user_attrs.items()
                    if key.startswith(TOGETHER)
                },
                part=None if part is None else (int(part[0]), int(part[1])),
            )

    @property
    def chosen(self) -> dict[int, dict[str, float | str]]:
        """What was chosen for each finished trial, by number: knob to value."""
        return {
            trial.number: {name: v if isinstance(v, str) else float(v) for name, v in trial.params.items()}
            for trial in self._trials(*STATES.values())
        }

    @property
    def probed(self) -> list[Probed]:
        """What probes told, in the order in which they were made."""
        with self._whole():
            return [
                Probed.model_validate(value) for key, value in self._study.user_attrs.items() if key.startswith(PROBE)
            ]

    def again(self, result: TrialResult) -> Proposal:
        """What a finished trial was asked to try, to be ranked and measured as it was then."""
        params = self.chosen[result.number]
        precision: Precision = "bfloat16" if result.precision == "bfloat16" else "float32"
        return Proposal(
            number=result.number, origin=result.origin, params=params, scorers=result.scorers, precision=precision
        )

    def _checked(self, result: TrialResult) -> TrialResult:
        if result.state == "complete" and (missing := self._wanted - result.metrics.keys()):
            raise ValueError(f"trial {result.number} has no {min(missing)}")
        return result

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What is stored is what was written.

        Raises:
            StudyError: It is not.
        """
        try:
            yield
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise StudyError(
                f"what is stored of study {self._study.study_name} is damaged: {malformed(error)}"
            ) from error

    def _kept(self, prefix: str) -> Iterator[tuple[int, Any]]:
        """What is kept by trials' numbers."""
        for key, value in self._study.user_attrs.items():
            if key.startswith(prefix):
                yield int(key.removeprefix(prefix)), value

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)


def _read_only(journal: Path) -> JournalStorage:
    try:
        return JournalStorage(JournalFileBackend(str(plain_file(journal))))
    except Exception as error:  # whatever Optuna raises of lines that it has not written
        raise StudyError(f"{journal} cannot be read: {malformed(error)}") from error


def _measured(metrics: dict[str, Any]) -> dict[str, Measured]:
    return {name: Measured(**measured) for name, measured in metrics.items()}


def result_of(trial: FrozenTrial) -> TrialResult | None:
    """What came of a trial, if that is known."""
    stored: dict[str, Any] | None = trial.user_attrs.get(RESULT)
    return None if stored is None else TrialResult.model_validate(stored)


def _open(url: str, folder: Path) -> BaseStorage:
    """What the spec names; a path starts in the spec's folder."""
    scheme, _, path = url.partition(":///")
    if scheme.startswith("sqlite") and path and not path.startswith(":memory:"):
        url = f"{scheme}:///{folder / path}"
    try:
        return get_storage(url) if url.startswith("redis") else RDBStorage(url)
    except Exception as error:  # noqa: BLE001 - drivers raise many kinds, and may tell the password further up
        cause = masked(" ".join(f"{type(error).__name__}: {error}".split()), of=(url,))
        raise StudyError(f"search.storage cannot be opened: {cause}{hint_of(url)}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's own log and its warnings about experimental parts from the user."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
