"""One session of a study: ask, run, tell, keep the front's models, and measure the front again at the end."""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from datetime import UTC, datetime

from autoprune.plugin import StudyInfo, StudyOutcome, TrialResult, losses
from autoprune.study.environment import environment
from autoprune.study.executor import Executor
from autoprune.study.folder import SPEC_FILE, StudyFolder
from autoprune.study.front import pareto_front
from autoprune.study.interrupts import Interrupts
from autoprune.study.jobs import Calibrate, Calibrated, Cut, Done, Probe, Probed, Remeasure, Remeasured
from autoprune.study.observers import Observers, log
from autoprune.study.problem import Problem
from autoprune.study.seeding import derive
from autoprune.study.space import Precision, Proposal
from autoprune.study.storage import Study
from autoprune.study.stored import study_outcome, with_model
from autoprune.study.trial import model_folder

_PROBES, _PER_GROUP = 8, 0.25
"""How many probes come before each candidate; or how many for each group, if that is more."""
_SAMPLES = 64
"""Validation samples of a probe, where the sampler asks for none and scorers alone are compared."""


class Session:
    """Takes a study from wherever it stands to the asked number of trials."""

    def __init__(
        self, problem: Problem, folder: StudyFolder, *, study: Study, executor: Executor, observers: Observers
    ) -> None:
        self._problem = problem
        self._folder = folder
        self._study = study
        self._executor = executor
        self._observers = observers
        self._unfinished: deque[Proposal] = deque()
        self._results: dict[int, TrialResult] = {}
        self._front: tuple[TrialResult, ...] = ()
        self._precision: Precision = "float32"
        self._probing: set[Cut] = set()
        self._warned: set[str] = set()
        """Scorers that could not rank a group: told once."""
        self._interrupts = Interrupts()
        self.stopped = False
        """Whether Ctrl-C or SIGTERM ended it."""

    def run(self) -> tuple[StudyInfo, StudyOutcome, dict[str, str]]:
        """Run it.

        Returns:
            The study, how it ended and what observers want the user to be told.
        """
        with self._interrupts.handled():
            self._take_up()
            info = self._info()
            if not self._folder.begun:
                self._folder.write_info(info)
            facts = self._observers.started(info)
            try:
                self._search(info)
                self._remeasure()
            except KeyboardInterrupt:
                self.stopped = True
            finally:
                self._executor.close()
            results = sorted(self._results.values(), key=lambda result: result.number)
            outcome = study_outcome(self._folder, info.objectives, results, self._study.tests, interrupted=self.stopped)
            self._observers.finished(info, outcome)
        return info, outcome, facts

    def _take_up(self) -> None:
        """Make study and models consistent: an earlier session may have been killed anywhere."""
        first = self._problem.space.first(self._problem.spec.search.ladder)
        self._study.enqueue(first[: self._folder.trials])
        self._unfinished.extend(self._study.unfinished())
        for result in self._study.results:
            self._add(result)
        models = self._folder.path / "models"
        models.mkdir(exist_ok=True)
        on_front = {str(result.number) for result in self._front}
        for entry in models.iterdir():
            if entry.name not in on_front:
                shutil.rmtree(entry)

    def _search(self, info: StudyInfo) -> None:
        limit = self._problem.spec.search.timeout
        end = math.inf if limit is None else time.monotonic() + limit.total_seconds()
        self._calibrate()
        running = 0
        while True:
            while running < self._executor.capacity and time.monotonic() < end:
                job = self._next()
                if job is None:
                    break
                if isinstance(job, Proposal) and (repeated := self._repeated(job)) is not None:
                    self._finish(info, repeated)
                    continue
                self._executor.submit(job)
                running += 1
            if not running:
                return
            done = self._wait()
            running -= 1
            if isinstance(done, TrialResult):
                self._finish(info, done)
            elif isinstance(done, Probed):
                self._learn(info, done)

    def _calibrate(self) -> None:
        """Settle the precision of forward passes, once in the study's life."""
        asked = self._problem.spec.search.precision
        known = self._study.precision
        if asked == "auto" and known is None and self._study.begun < self._folder.trials:
            self._executor.submit(Calibrate())
            done = self._wait()
            if isinstance(done, Calibrated):
                self._study.record_precision(known := done.precision)
        self._precision = asked if asked != "auto" else known or "float32"

    def _next(self) -> Proposal | Probe | None:
        """What is to be done next; None as long as that hangs on what is being done, or when nothing is left."""
        proposal = self._unfinished.popleft() if self._unfinished else None
        if proposal is None:
            number = self._study.begun
            if number >= self._folder.trials:
                return None
            if cuts := self._due(number):
                self._probing.update(cuts)
                samples = self._problem.components.sampler.probe_samples or _SAMPLES
                return Probe(cuts=cuts, samples=samples, precision=self._precision)
            if self._probing:
                return None
            proposal = self._study.ask()
        rivals = tuple(losses(member.metrics, self._problem.spec.objectives) for member in self._front)
        facts = {"scorers": self._study.rankings.scorers, "rivals": rivals, "precision": self._precision}
        return proposal.model_copy(update=facts)

    def _due(self, number: int) -> tuple[Cut, ...]:
        """Probes for one job of those that come before a trial; the dense model, trial 0, waits for none."""
        rankings, capacity = self._study.rankings, self._executor.capacity
        for_each = max(_PROBES, math.ceil(len(self._problem.space.groups) * _PER_GROUP))
        missing = min(number * for_each, rankings.total) - rankings.done - len(self._probing)
        return tuple(rankings.next(min(missing, math.ceil(for_each / capacity)), self._probing)) if missing > 0 else ()

    def _learn(self, info: StudyInfo, probed: Probed) -> None:
        rankings = self._study.rankings
        self._study.record_probe(probed)
        self._probing.difference_update(effect.cut for effect in probed.effects)
        self._observers.finished_probe(info, rankings.done, rankings.total)
        for effect in probed.effects:
            if effect.reason is not None and effect.cut.scorer not in self._warned:
                self._warned.add(effect.cut.scorer)
                log.warning("what a cut of %s does could not be measured: %s", effect.cut.group, effect.reason)

    def _repeated(self, proposal: Proposal) -> TrialResult | None:
        """The result, where an earlier trial had the same cut, scorers and strategy: it is not paid for again."""
        space = self._problem.space
        if proposal.origin == "dense":
            return None
        candidate = space.candidate(proposal)
        scorers = {group: space.scorer(proposal.scorers, group) for group, cut in candidate.cut_units.items() if cut}
        same = (candidate.ratios, scorers, space.strategy(proposal))
        for earlier in self._results.values():
            if earlier.state != "complete" or earlier.origin == "dense":
                continue
            if (earlier.achieved, earlier.scorers, earlier.strategy) == same:
                now = datetime.now(UTC)
                changes = {
                    "number": proposal.number,
                    "origin": proposal.origin,
                    "ratios": space.asked(proposal),
                    "durations_s": {},
                    "reason": f"same cut as trial {earlier.number}; its measurements are used again",
                    "seed": derive(self._problem.spec.search.seed, proposal.number),
                    "started": now,
                    "finished": now,
                }
                return earlier.model_copy(update=changes)
        return None

    def _wait(self) -> Done:
        with self._interrupts.allowed():
            return self._executor.next()

    def _finish(self, info: StudyInfo, result: TrialResult) -> None:
        self._study.tell(result)
        before = self._front
        self._add(result)
        for fallen in {*(r.number for r in before), result.number} - {r.number for r in self._front}:
            shutil.rmtree(model_folder(self._folder.path, fallen), ignore_errors=True)
        self._observers.finished_trial(info, self._with_model(result))

    def _add(self, result: TrialResult) -> None:
        self._results[result.number] = result
        self._front = pareto_front([*self._front, result], self._problem.spec.objectives)

    def _with_model(self, result: TrialResult) -> TrialResult:
        return with_model(self._folder, result) if result in self._front else result

    def _remeasure(self) -> None:
        """Measure the dense model and the front on the test split, each once in the study's life."""
        known = self._study.tests
        dense = [r.number for r in self._results.values() if r.origin == "dense" and r.state == "complete"]
        wanted = [*dense, *(r.number for r in self._front if r.number not in dense)] if self._front else []
        jobs = [Remeasure(number=number, dense=number in dense) for number in wanted if number not in known]
        for job in jobs:
            self._executor.submit(job)
        for _ in jobs:
            done = self._wait()
            if isinstance(done, Remeasured) and done.reason is None:
                self._study.record_test(done.number, done.metrics)
            elif isinstance(done, Remeasured):
                log.warning("trial %d could not be measured on the test split: %s", done.number, done.reason)

    def _info(self) -> StudyInfo:
        problem, spec = self._problem, self._problem.spec
        return StudyInfo(
            name=self._folder.name,
            folder=self._folder.path,
            spec=spec,
            spec_text=(self._folder.path / SPEC_FILE).read_text(encoding="utf-8"),
            trials=self._folder.trials,
            objectives=spec.objectives,
            constraints={name: str(bound) for name, bound in spec.constraints.items()},
            units={name: metric.unit for name, metric in problem.components.metrics.items()},
            groups=problem.space.summary,
            environment=environment(spec, problem.device),
            finished=tuple(self._with_model(self._results[number]) for number in sorted(self._results)),
        )
