"""The study in Optuna's storage; Optuna's objects never leave this module.

Every trial keeps our whole `TrialResult` in its user attributes; Optuna's own columns hold what samplers and
dashboards need. A study that was killed at any moment goes on without losing or repeating a trial:

* The first candidates are queued in a fixed order, so the number of trials tells which are missing.
* A trial that was running keeps its number and its parameters. Parameters it had not got yet are drawn with seeds of
  their own, so they come out as they would have.
* A trial that had its result but not yet its state is told again, not run again.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.samplers import BaseGASampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from autoprune.errors import StudyError
from autoprune.plugin import Choice, Knob, Measured, Sampler, SamplerContext, TrialResult
from autoprune.plugin.results import Origin
from autoprune.spec import Spec
from autoprune.study.guide import Guide
from autoprune.study.jobs import Probed
from autoprune.study.journal import Journal
from autoprune.study.proposal import Params, Precision, Proposal
from autoprune.study.rankings import Rankings
from autoprune.study.seeding import derive

_RESULT, _ORIGIN, _TEST, _PROBE = "autoprune:result", "autoprune:origin", "autoprune:test:", "autoprune:probe:"
_PRECISION = "autoprune:precision"
_STATES = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL, "rejected": TrialState.PRUNED}


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
        self._journal: Journal | None = None
        """Where the study is kept in a file that this session writes."""
        with _quiet():
            if spec.search.storage is not None:
                self._storage = _open(spec.search.storage, spec.document.folder)
            elif mode == "read":
                self._storage = JournalStorage(JournalFileBackend(str(journal)))
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
        return [result for trial in self._trials(*_STATES.values()) if (result := _result(trial)) is not None]

    @property
    def tests(self) -> dict[int, dict[str, Measured]]:
        """What was measured on the test split, per trial."""
        return {
            int(key.removeprefix(_TEST)): {name: Measured(**measured) for name, measured in metrics.items()}
            for key, metrics in self._study.user_attrs.items()
            if key.startswith(_TEST)
        }

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)


class Study(StoredStudy):
    """Asks for proposals, takes results and remembers both. One process at a time may use it."""

    def __init__(self, name: str, *, spec: Spec, guide: Guide, sampler: Sampler, journal: Path, new: bool) -> None:
        """Create the study, or continue it.

        Args:
            name: In the storage.
            spec: Gives the objectives, the constraints, the seed and the storage.
            guide: What the sampler chooses, and is told of it.
            sampler: Builds Optuna's sampler.
            journal: File to keep the study in, where the spec names no storage.
            new: There must be none of that name yet.

        Raises:
            StudyError: The storage cannot be opened or, for a new study, the name is taken.
        """
        super().__init__(name, spec=spec, journal=journal, mode="create" if new else "continue")
        self._objectives = spec.objectives
        self._constraints = spec.constraints
        self._seed = spec.search.seed
        self._parameters = guide.parameters
        self._sampler = sampler
        self._running: dict[int, Trial] = {}
        self._results = {result.number: result for result in super().results}
        self.rankings = Rankings(guide.probed, guide.scorers, sensitivity=sampler.probe_samples > 0)
        """What probes told, those of earlier sessions included."""
        probes = [value for key, value in self._study.user_attrs.items() if key.startswith(_PROBE)]
        for probed in probes:
            self.rankings.learn(Probed.model_validate(probed).effects)
        self._probes = len(probes)
        self._context = SamplerContext(
            seed=spec.search.seed,
            objectives=spec.objectives,
            constraints=spec.constraints,
            metrics=guide.metrics,
            groups=guide.groups,
            knobs=guide.knobs,
            priced=guide.priced,
            meetings=guide.meetings,
            costs=guide.costs,
            sensitivity=lambda: self.rankings.sensitivity,
            history=lambda: self.results,
            pending=lambda: {trial.number: trial.params for trial in self._trials(TrialState.RUNNING)},
        )

    @property
    def results(self) -> list[TrialResult]:
        """Of every finished trial, by number; only what an earlier session told is read from the storage."""
        return [self._results[number] for number in sorted(self._results)]

    @property
    def begun(self) -> int:
        """How many trials were asked for, finished or not."""
        return len(self._trials(TrialState.RUNNING, *_STATES.values()))

    def enqueue(self, first: Sequence[tuple[Origin, Params]]) -> None:
        """Queue the first candidates as trials number 0, 1, …, as far as they are not there yet."""
        with _quiet():
            for origin, params in first[len(self._trials()) :]:
                self._study.enqueue_trial(params, user_attrs={_ORIGIN: origin})

    def unfinished(self) -> list[Proposal]:
        """Trials that an earlier session left running; of those that have their result, just the state is told."""
        proposals = []
        for trial in self._trials(TrialState.RUNNING):
            result = _result(trial)
            self._build_sampler(trial.number)
            self._running[trial.number] = Trial(self._study, trial._trial_id)
            if result is None:
                proposals.append(self._propose(trial.number))
            else:
                self.tell(result)
        return proposals

    def ask(self) -> Proposal:
        """The next candidate: a queued one, or the sampler's."""
        waiting = self._trials(TrialState.WAITING)
        number = waiting[0].number if waiting else len(self._trials())
        with _quiet():
            self._build_sampler(number)
            self._running[number] = self._study.ask()
        return self._propose(number)

    def tell(self, result: TrialResult) -> None:
        """Record a finished trial."""
        trial = self._running.pop(result.number)
        result = result.model_copy(update={"model": None})
        if _RESULT not in trial.user_attrs:
            trial.set_user_attr(_RESULT, result.model_dump(mode="json"))
        told = self._storage.get_trial(trial._trial_id).constraints
        for metric, violation in result.violations.items():
            if metric not in told:
                # Samplers add violations up, so each is told relative to its bound.
                trial.set_constraint(metric, violation / (abs(self._constraints[metric].value) or 1.0))
        complete = result.state == "complete"
        with _quiet():
            self._study.tell(
                trial,
                [result.metrics[name].value for name in self._objectives] if complete else None,
                state=_STATES[result.state],
            )
        self._results[result.number] = result
        self._settle()

    @property
    def precision(self) -> Precision | None:
        """Of forward passes, once that is settled."""
        settled: Precision | None = self._study.user_attrs.get(_PRECISION)
        return settled

    def record_precision(self, precision: Precision) -> None:
        """Settle it."""
        self._study.set_user_attr(_PRECISION, precision)
        self._settle()

    def record_probe(self, probed: Probed) -> None:
        """Keep what probes told."""
        self._study.set_user_attr(f"{_PROBE}{self._probes}", probed.model_dump(mode="json"))
        self._probes += 1
        self.rankings.learn(probed.effects)

    def record_test(self, number: int, metrics: Mapping[str, Measured]) -> None:
        """Keep what was measured on the test split."""
        self._study.set_user_attr(f"{_TEST}{number}", {name: value.model_dump() for name, value in metrics.items()})
        self._settle()

    def _settle(self) -> None:
        """Have what was recorded outlive a crash of the machine, too. What is asked for need not: it is asked again."""
        if self._journal is not None:
            self._journal.sync()

    def _build_sampler(self, number: int, parameter: int = 0) -> None:
        """A sampler of its own for every draw, so that a draw hangs on no draw before it."""
        seed = derive(self._seed, number, parameter)
        self._study.sampler = self._sampler.build(replace(self._context, seed=seed))

    def _settle_parents(self, number: int) -> None:
        """Have a genetic sampler choose and store the parents before it draws from them.

        Stored parents come in another order than those just chosen, and choosing may take random numbers: a trial that
        is asked for again would get another child.
        """
        sampler = self._study.sampler
        if isinstance(sampler, BaseGASampler):
            sampler.get_parent_population(
                self._study, sampler.get_trial_generation(self._study, self._trials()[number])
            )
            self._build_sampler(number)

    def _propose(self, number: int) -> Proposal:
        trial = self._running[number]
        params: Params = {}
        with _quiet():
            self._settle_parents(number)
            # Draws what the sampler chooses jointly; genetic samplers count a queued trial to their generation by it.
            jointly = trial.relative_params
            for index, parameter in enumerate(self._parameters, start=1):
                if parameter.name not in jointly:
                    self._build_sampler(number, index)
                params[parameter.name] = _suggested(trial, parameter)
        return Proposal(number=number, origin=trial.user_attrs.get(_ORIGIN, "sampler"), params=params)


def _suggested(trial: Trial, knob: Knob) -> float | str:
    if isinstance(knob, Choice):
        return str(trial.suggest_categorical(knob.name, knob.options))
    if knob.whole:
        return float(trial.suggest_int(knob.name, int(knob.low), int(knob.high), log=knob.log))
    return trial.suggest_float(knob.name, knob.low, knob.high, log=knob.log)


def _result(trial: FrozenTrial) -> TrialResult | None:
    stored: dict[str, Any] | None = trial.user_attrs.get(_RESULT)
    return None if stored is None else TrialResult.model_validate(stored)


def _open(url: str, folder: Path) -> BaseStorage:
    """What the spec names; a path starts in the spec's folder."""
    scheme, _, path = url.partition(":///")
    if scheme.startswith("sqlite") and path and not path.startswith(":memory:"):
        url = f"{scheme}:///{folder / path}"
    try:
        return get_storage(url) if url.startswith("redis") else RDBStorage(url)
    except Exception as error:
        raise StudyError(f"search.storage cannot be opened: {type(error).__name__}: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's own log and its warnings about experimental parts from the user."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
