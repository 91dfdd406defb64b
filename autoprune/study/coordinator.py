"""One session of a study: ask, run, tell, keep the front's models; what comes then is `autoprune.study.ending`."""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from datetime import UTC, datetime
from functools import partial

from autoprune.plugin import StudyInfo, StudyOutcome, TrialResult
from autoprune.plugin.front import RunningFront
from autoprune.study.dispatcher import Dispatcher
from autoprune.study.doubts import Silence, noise, saturation
from autoprune.study.ending import Ending
from autoprune.study.folder import StudyFolder
from autoprune.study.front import Finals, measure_front
from autoprune.study.info import study_info
from autoprune.study.interrupts import Interrupts
from autoprune.study.jobs import Calibrate, Calibrated, Cut, Probe, Probed, Trial
from autoprune.study.models import model_folder, tidy
from autoprune.study.observers import Observers, log
from autoprune.study.problem import Problem
from autoprune.study.proposal import Precision, Proposal
from autoprune.study.seeding import derive
from autoprune.study.storage import Study
from autoprune.study.stored import study_outcome, with_model
from autoprune.study.warm_start import WarmStart

_PROBES, _PER_GROUP = 8, 0.25
"""How many probes come before each candidate; or how many for each group, if that is more."""
_GROWTH = 1e-3
"""Of the hypervolume: less is no progress worth waiting for."""
_SAMPLES = 64
"""Validation samples of a probe, where the sampler asks for none and scorers alone are compared."""


class Session:
    """Takes a study from wherever it stands to the asked number of trials."""

    def __init__(
        self,
        problem: Problem,
        folder: StudyFolder,
        *,
        study: Study,
        dispatcher: Dispatcher,
        observers: Observers,
        warm: WarmStart,
    ) -> None:
        self._problem = problem
        self._folder = folder
        self._study = study
        self._dispatcher = dispatcher
        self._observers = observers
        self._warm = warm
        if warm.effects and not study.rankings.done:
            study.record_probe(Probed(effects=warm.effects))
        self._unfinished: deque[Proposal] = deque()
        self._results: dict[int, TrialResult] = {}
        self._front = RunningFront(problem.spec.objectives)
        self._precision: Precision = "float32"
        self._settled: frozenset[int] = frozenset()
        """Trials that an earlier session settled, see `Finals`: their models do not hang on what is tried now."""
        self._probing: set[Cut] = set()
        self._warned: set[str] = set()
        """Scorers that could not rank a group: told once."""
        # What an earlier session heard is not known here.
        self._silence = Silence(() if study.rankings.done else [group.name for group in problem.space.cuttable])
        self._interrupts = Interrupts()
        self._volumes: list[float] = []
        """The front's hypervolume after each trial of this session, where patience is limited."""
        self._pointless = False
        """Whether the dense model itself failed: nothing could be compared with it."""
        self.stopped = False
        """Whether Ctrl-C or SIGTERM ended it."""

    def run(self) -> tuple[StudyInfo, StudyOutcome, dict[str, str]]:
        """Run it.

        Returns:
            The study, how it ended and what observers want the user to be told.
        """
        with self._interrupts.handled():
            self._take_up()
            info = study_info(self._problem, self._folder, map(self._with_model, self._trials))
            if not self._folder.begun:
                self._folder.write_info(info)
            facts = self._observers.started(info)
            try:
                self._calibrate()
                self._search(info)
                self._ending(info).run(self._trials)
            except KeyboardInterrupt:
                self.stopped = True
            finally:
                self._dispatcher.close()
            outcome = study_outcome(self._folder, info, self._trials, self._study.finals, interrupted=self.stopped)
            self._observers.finished(info, outcome)
        return info, outcome, facts

    def _take_up(self) -> None:
        """Make study and models consistent: an earlier session may have been killed anywhere."""
        first = self._problem.space.first(self._problem.spec.search.ladder)
        first += [("warm-start", params) for params in self._warm.candidates]
        self._study.enqueue(first[: self._folder.trials])
        self._unfinished.extend(self._study.unfinished())
        for result in self._study.results:
            self._add(result)
        finals = self._study.finals
        self._settled = frozenset(finals.settled)
        made_again = [number for number, made in finals.settled.items() if made is not None]
        kept = finals.kept(self._trials, self._problem.spec.objectives)
        tidy(self._folder.path, kept=kept, made_again=made_again)

    def _calibrate(self) -> None:
        """Settle the precision of forward passes, once in the study's life."""
        asked = self._problem.spec.search.precision
        known = self._study.precision
        self._precision = asked if asked != "auto" else known or "float32"
        if asked == "auto" and known is None and self._study.begun < self._folder.trials:
            self._dispatcher.submit(Calibrate(), self._settle)
            self._finish_jobs()

    def _settle(self, calibrated: Calibrated) -> None:
        self._precision = calibrated.precision
        self._study.record_precision(calibrated.precision)

    def _search(self, info: StudyInfo) -> None:
        limit = self._problem.spec.search.timeout
        end = math.inf if limit is None else time.monotonic() + limit.total_seconds()
        while True:
            while self._dispatcher.open < self._dispatcher.capacity and time.monotonic() < end:
                if self._pointless or not self._begin(info):
                    break
            if not self._dispatcher.open:
                return
            self._take_answer()

    def _begin(self, info: StudyInfo) -> bool:
        """Have the next job done; False if there is none, as long as nothing more is known."""
        job = self._next()
        if isinstance(job, Probe):
            self._dispatcher.submit(job, partial(self._learn, info))
        elif job is not None and (repeated := self._repeated(job)) is not None:
            self._finish(info, repeated)
        elif job is not None:
            self._dispatcher.submit(Trial(proposal=job), partial(self._finish, info))
        return job is not None

    def _next(self) -> Proposal | Probe | None:
        """What is to be done next; None as long as that hangs on what is being done, or when nothing is left."""
        compared = self._compared
        if self._unfinished and (compared or self._unfinished[0].origin == "dense"):
            proposal = self._unfinished.popleft()
        elif self._unfinished:
            return None
        else:
            number = self._study.begun
            if number >= self._folder.trials or self._stalled:
                return None
            if cuts := self._due(number):
                self._probing.update(cuts)
                samples = self._problem.components.sampler.probe_samples or _SAMPLES
                return Probe(cuts=cuts, samples=samples, precision=self._precision)
            if self._probing or (number and not compared):
                return None
            proposal = self._study.ask()
        facts = {"scorers": self._study.rankings.scorers, "rivals": self._front.losses, "precision": self._precision}
        return proposal.model_copy(update={**facts, "dense": self._study.dense, "dense_s": self._dense_s})

    @property
    def _dense_s(self) -> dict[str, float]:
        """Seconds per stage of the dense model's trial, once that is done."""
        first = self._results.get(0)
        return first.durations_s if first is not None and first.origin == "dense" else {}

    @property
    def _stalled(self) -> bool:
        """Whether the last trials of this session hardly made the front better, and no more are wanted then."""
        patience = self._problem.spec.search.patience
        if patience is None or len(self._volumes) <= patience:
            return False
        return self._volumes[-1] <= (1 + _GROWTH) * self._volumes[-1 - patience]

    @property
    def _compared(self) -> bool:
        """Whether all bounds are numbers: what is bound to a share of the dense model's waits for that."""
        relative = any(bound.of_dense for bound in self._problem.spec.constraints.values())
        return not relative or bool(self._study.dense)

    def _due(self, number: int) -> tuple[Cut, ...]:
        """Probes for one job of those that come before a trial; the dense model, trial 0, waits for none."""
        rankings, capacity = self._study.rankings, self._dispatcher.capacity
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
        if doubt := self._silence.learn(probed.effects):
            log.warning(doubt)

    def _repeated(self, proposal: Proposal) -> TrialResult | None:
        """The result, where an earlier trial had the same cut, scorers and strategy: it is not paid for again."""
        space = self._problem.space
        strategy = space.strategies[space.strategy(proposal)].component
        if proposal.origin == "dense" or strategy.allocates:
            return None
        candidate = space.candidate(proposal)
        scorers = {group: space.scorer(proposal, group) for group, cut in candidate.cut_units.items() if cut}
        same = (candidate.ratios, scorers, space.strategy(proposal), space.choices(proposal))
        for earlier in self._results.values():
            if earlier.state != "complete" or earlier.origin == "dense":
                continue
            if (earlier.achieved, earlier.scorers, earlier.strategy, earlier.knobs) == same:
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

    def _take_answer(self) -> None:
        """Wait for an answer, which may be interrupted, and do with it what is to be done, which may not."""
        with self._interrupts.allowed():
            hand_over = self._dispatcher.next()
        hand_over()

    def _finish_jobs(self) -> None:
        while self._dispatcher.open:
            self._take_answer()

    def _finish(self, info: StudyInfo, result: TrialResult) -> None:
        self._study.tell(result)
        stalled = self._stalled
        for fallen in set(self._add(result)) - self._settled:
            shutil.rmtree(model_folder(self._folder.path, fallen), ignore_errors=True)
        for doubtful in (noise, saturation) if result.origin == "dense" else ():
            if doubt := doubtful(result, self._problem.metrics):
                log.warning(doubt)
        if self._problem.spec.search.patience is not None:
            front = measure_front(self._trials, self._problem.spec.objectives, Finals(), costs=info.costs)
            self._volumes.append(front.hypervolume)
        if self._stalled and not stalled:
            patience = self._problem.spec.search.patience
            log.warning("the last %d trials made the front hardly better: no further one begins", patience)
        self._observers.finished_trial(info, self._with_model(result))

    def _add(self, result: TrialResult) -> tuple[int, ...]:
        self._results[result.number] = result
        self._pointless |= result.origin == "dense" and result.state == "failed"
        return self._front.add(result)

    def _with_model(self, result: TrialResult) -> TrialResult:
        return with_model(self._folder, result) if result.number in self._front else result

    @property
    def _trials(self) -> list[TrialResult]:
        """By number."""
        return [self._results[number] for number in sorted(self._results)]

    def _ending(self, info: StudyInfo) -> Ending:
        return Ending(
            self._problem,
            self._folder,
            info,
            study=self._study,
            dispatcher=self._dispatcher,
            observers=self._observers,
            finish_jobs=self._finish_jobs,
        )
