"""The study in Optuna's storage; Optuna's objects never leave this module and `autoprune.study.recorded`.

Every trial keeps our whole `TrialResult` in its user attributes; Optuna's own columns hold what samplers and
dashboards need. A study that was killed at any moment goes on without losing or repeating a trial:

* The first candidates are queued in a fixed order, so the number of trials tells which are missing.
* A trial that was running keeps its number and its parameters. Parameters it had not got yet are drawn with seeds of
  their own, so they come out as they would have.
* A trial that had its result but not yet its state is told again, not run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from optuna.samplers import BaseGASampler
from optuna.trial import Trial, TrialState

from autoprune.plugin import Choice, Knob, Measured, Sampler, SamplerContext, TrialResult
from autoprune.plugin.results import Origin
from autoprune.spec import Spec
from autoprune.study.guide import Guide
from autoprune.study.jobs import Probed
from autoprune.study.proposal import Params, Precision, Proposal
from autoprune.study.rankings import Rankings
from autoprune.study.recorded import (
    ORIGIN,
    PART,
    PRECISION,
    PROBE,
    RESULT,
    SETTLED,
    STATES,
    TEST,
    TOGETHER,
    WHOLE_TEST,
    StoredStudy,
    quiet,
    result_of,
)
from autoprune.study.seeding import derive


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
        probes = self.probed
        for probed in probes:
            self.rankings.learn(probed.effects)
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
    def dense(self) -> dict[str, float]:
        """What the dense model has of the metrics that are bound to a share of it; nothing before it was measured."""
        dense = (result for result in self._results.values() if result.origin == "dense")
        metrics = next((result.metrics for result in dense if result.state == "complete"), {})
        return {name: metrics[name].value for name, bound in self._constraints.items() if bound.of_dense and metrics}

    @property
    def begun(self) -> int:
        """How many trials were asked for, finished or not."""
        return len(self._trials(TrialState.RUNNING, *STATES.values()))

    def enqueue(self, first: Sequence[tuple[Origin, Params]]) -> None:
        """Queue the first candidates as trials number 0, 1, …, as far as they are not there yet."""
        with quiet():
            for origin, params in first[len(self._trials()) :]:
                self._study.enqueue_trial(params, user_attrs={ORIGIN: origin})

    def unfinished(self) -> list[Proposal]:
        """Trials that an earlier session left running; of those that have their result, just the state is told."""
        proposals = []
        for trial in self._trials(TrialState.RUNNING):
            result = result_of(trial)
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
        with quiet():
            self._build_sampler(number)
            self._running[number] = self._study.ask()
        return self._propose(number)

    def tell(self, result: TrialResult) -> None:
        """Record a finished trial."""
        trial = self._running.pop(result.number)
        result = result.model_copy(update={"model": None})
        if RESULT not in trial.user_attrs:
            trial.set_user_attr(RESULT, result.model_dump(mode="json"))
        told = self._storage.get_trial(trial._trial_id).constraints
        for metric, violation in result.violations.items():
            if metric not in told:
                # Samplers add violations up, so each is told relative to its bound.
                bound = self._constraints[metric].at(self.dense.get(metric, 0.0))
                trial.set_constraint(metric, violation / (abs(bound.value) or 1.0))
        complete = result.state == "complete"
        with quiet():
            self._study.tell(
                trial,
                [result.metrics[name].value for name in self._objectives] if complete else None,
                state=STATES[result.state],
            )
        self._results[result.number] = result
        self._sync()

    @property
    def precision(self) -> Precision | None:
        """Of forward passes, once that is settled."""
        settled: Precision | None = self._study.user_attrs.get(PRECISION)
        return settled

    def record_precision(self, precision: Precision) -> None:
        """Settle it."""
        self._study.set_user_attr(PRECISION, precision)
        self._sync()

    def record_probe(self, probed: Probed) -> None:
        """Keep what probes told."""
        self._study.set_user_attr(f"{PROBE}{self._probes}", probed.model_dump(mode="json"))
        self._probes += 1
        self.rankings.learn(probed.effects)

    def settle(self, number: int, made: TrialResult | None) -> None:
        """Keep what making a member of the front again came to; None where it stays as it is."""
        self._study.set_user_attr(f"{SETTLED}{number}", None if made is None else made.model_dump(mode="json"))
        self._sync()

    def record_part(self, samples: int, of: int) -> None:
        """Keep how many samples of the test split the front is measured on."""
        self._study.set_user_attr(PART, [samples, of])

    def record_test(self, number: int, metrics: Mapping[str, Measured], *, whole: bool = False) -> None:
        """Keep what was measured on the part of the test split that all are measured on, or on the whole of it."""
        key = f"{WHOLE_TEST if whole else TEST}{number}"
        self._study.set_user_attr(key, {name: value.model_dump() for name, value in metrics.items()})
        self._sync()

    def record_together(self, evaluator: str, numbers: Sequence[int], metrics: Mapping[str, Measured]) -> None:
        """Keep what an evaluator measured of the models of some trials together."""
        kept = {"numbers": list(numbers), "metrics": {name: value.model_dump() for name, value in metrics.items()}}
        self._study.set_user_attr(f"{TOGETHER}{evaluator}", kept)
        self._sync()

    def _sync(self) -> None:
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
        with quiet():
            self._settle_parents(number)
            # Draws what the sampler chooses jointly; genetic samplers count a queued trial to their generation by it.
            jointly = trial.relative_params
            for index, parameter in enumerate(self._parameters, start=1):
                if parameter.name not in jointly:
                    self._build_sampler(number, index)
                params[parameter.name] = _suggested(trial, parameter)
        return Proposal(number=number, origin=trial.user_attrs.get(ORIGIN, "sampler"), params=params)


def _suggested(trial: Trial, knob: Knob) -> float | str:
    if isinstance(knob, Choice):
        return str(trial.suggest_categorical(knob.name, knob.options))
    if knob.whole:
        return float(trial.suggest_int(knob.name, int(knob.low), int(knob.high), log=knob.log))
    return trial.suggest_float(knob.name, knob.low, knob.high, log=knob.log)
