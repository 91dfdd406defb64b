"""When the trials are done: the front's members are made again, measured on the test split and exported, each once.

What is recorded in the study is done; what is not is done again, so a session may be killed anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from autoprune.plugin import Evaluator, StudyInfo, TrialResult, dominates, losses
from autoprune.report import named_member
from autoprune.study.dispatcher import Dispatcher
from autoprune.study.exporting import missing_exports
from autoprune.study.folder import StudyFolder
from autoprune.study.front import pareto_front
from autoprune.study.jobs import Export, Exported, Job, Join, Joined, Refine, Remeasure, Remeasured
from autoprune.study.models import model_folder, put_in_place, tidy
from autoprune.study.naming import numbered
from autoprune.study.observers import Observers, log
from autoprune.study.problem import Problem
from autoprune.study.storage import Study
from autoprune.study.stored import pruned_members, study_outcome
from autoprune.toolkit.spacing import spaced

_SHARE = 1 / 3
"""Of the seconds of the trials, what the end may take: then it is a quarter of the whole."""
_REFINING = 1 / 6
"""Of the seconds of the trials, what making members again may take of that."""
_SOME = 5
"""Members that are made again at least."""
_LEAST = 1000
"""Samples of the test split on which the front is measured at least."""

Asked = tuple[Job[Any], Callable[[Any], None]]
"""A job, and what takes its answer."""


class Ending:
    """What a session does with the front once its trials are done."""

    def __init__(
        self,
        problem: Problem,
        folder: StudyFolder,
        info: StudyInfo,
        *,
        study: Study,
        dispatcher: Dispatcher,
        observers: Observers,
        finish_jobs: Callable[[], None],
    ) -> None:
        self._problem = problem
        self._folder = folder
        self._info = info
        self._study = study
        self._dispatcher = dispatcher
        self._observers = observers
        self._finish_jobs = finish_jobs
        self._worse: list[int] = []
        """Trials whose models came out worse when they were made again."""
        self._failed: set[int] = set()
        """Trials that could not be measured in this session."""

    def run(self, results: Sequence[TrialResult]) -> None:
        """Do all that is not done yet.

        Args:
            results: All trials of the study, by number.
        """
        self._refine(results)
        if front := self._front(results):
            self._measure(results, front)
            self._join(front)
            self._export(front)

    def _front(self, results: Sequence[TrialResult]) -> tuple[TrialResult, ...]:
        return self._study.finals.front(results, self._info.objectives).members

    def _refine(self, results: Sequence[TrialResult]) -> None:
        """Make every member again whose strategy has a final version, and let go of those that are beaten then."""
        finals, objectives = self._study.finals, self._info.objectives
        new = [result for result in pareto_front(results, objectives) if result.number not in finals.settled]
        # What has been measured on the test split stays what it was then.
        asked = [job for r in new if r.number not in finals.tests and (job := self._refining(r)) is not None]
        if asked or finals.settled:
            self._pass_over({result.number for result in new} - {job.proposal.number for job in asked})
        before = {result.number: result for result in new}
        made: list[TrialResult] = []

        def make(jobs: Sequence[Refine]) -> None:
            def take(was: TrialResult, result: TrialResult) -> None:
                made.append(result)
                self._settle(was, result)

            self._do("refining the front", [(job, partial(take, before[job.proposal.number])) for job in jobs])

        if self._problem.spec.search.final.samples == "auto" and len(asked) > _SOME:
            asked = self._spread(asked, results, before)
            make(asked[:_SOME])
            each = _seconds(made) / len(made)
            more = round_down(_REFINING * _seconds(results) / each) if each else len(asked)
            self._pass_over(job.proposal.number for job in asked[max(more, _SOME) :])
            make(asked[_SOME:more])
        else:
            make(asked)
        if self._worse:
            log.warning(
                "%d of the front's %d members came out worse by the final version of their strategy and stay as the"
                " search made them: trials %s",
                len(self._worse),
                len(new),
                ", ".join(map(str, sorted(self._worse))),
            )
        finals = self._study.finals
        made_again = [number for number, made in finals.settled.items() if made is not None]
        tidy(self._folder.path, kept=finals.kept(results, objectives), made_again=made_again)

    def _pass_over(self, numbers: Iterable[int]) -> None:
        """Have members stay as the search made them."""
        for number in sorted(numbers):
            self._study.settle(number, None)

    def _spread(
        self, jobs: Sequence[Refine], results: Sequence[TrialResult], members: Mapping[int, TrialResult]
    ) -> list[Refine]:
        """That of the best compromise first, then from all of the front."""
        outcome = study_outcome(self._folder, self._info, results, self._study.finals, interrupted=False)
        named = named_member(self._info, outcome)
        numbers = [job.proposal.number for job in jobs]
        first = numbers.index(named.trial.number) if named and named.trial.number in numbers else 0
        points = [losses(members[number].metrics, self._info.objectives) for number in numbers]
        return [jobs[index] for index in spaced(points, first)]

    def _refining(self, result: TrialResult) -> Refine | None:
        """The job that makes a member again; None where its strategy has no other final version."""
        if result.origin == "dense":
            return None
        proposal, space = self._study.again(result), self._problem.space
        strategy = space.strategies[space.strategy(proposal)].make(space.choices(proposal))
        try:
            same = strategy.final() == strategy
        except Exception:  # noqa: BLE001  whatever it raises is told by the job
            same = False
        was = losses(result.metrics, self._info.objectives)
        changes = {"final": True, "rivals": (was,), "dense": self._study.dense}
        return None if same else Refine(proposal=proposal.model_copy(update=changes))

    def _settle(self, before: TrialResult, made: TrialResult) -> None:
        objectives = self._info.objectives
        was = losses(before.metrics, objectives)
        good = made.feasible and not dominates(was, losses(made.metrics, objectives))
        self._study.settle(made.number, made if good else None)
        if good:
            put_in_place(self._folder.path, made.number)
        elif made.state == "failed":
            log.warning("trial %d could not be made again and stays as it is: %s", made.number, made.reason)
        else:
            self._worse.append(made.number)

    def _measure(self, results: Sequence[TrialResult], front: Sequence[TrialResult]) -> None:
        """Measure the dense model and the front on the same samples of the test split, and the verdict's on all."""
        dense = [result for result in results if result.origin == "dense" and result.state == "complete"]
        members = dense + [result for result in front if result.origin != "dense"]
        samples, total = self._part(results, members)
        known = self._study.finals.tests.keys() | self._failed
        jobs = [self._remeasuring(r, samples, self._record) for r in members if r.number not in known]
        self._do("measuring the front on the test split", jobs)
        if self._problem.spec.search.final.samples == "auto" and samples < total:
            known = self._study.finals.whole_tests.keys() | self._failed
            outcome = study_outcome(self._folder, self._info, results, self._study.finals, interrupted=False)
            named = named_member(self._info, outcome)
            picks = dense + [result for result in front if named and result.number == named.trial.number]
            record = partial(self._record, whole=True)
            jobs = [self._remeasuring(r, total, record) for r in picks if r.number not in known]
            self._do("measuring the best compromise on all of the test split", jobs)

    def _part(self, results: Sequence[TrialResult], members: Sequence[TrialResult]) -> tuple[int, int]:
        """How many of how many samples of the test split all are measured on: settled once in the study's life."""
        asked, total = self._problem.spec.search.final.samples, len(self._problem.data.test)
        if self._study.finals.part is None and asked == "auto" and members[0].origin == "dense":
            decide = partial(self._decide, results, len(members) - 1)
            self._do("measuring the dense model on the test split", [self._remeasuring(members[0], total, decide)])
        if self._study.finals.part is None:
            self._study.record_part(min(asked, total) if isinstance(asked, int) else total, total)
        return self._study.finals.part or (total, total)

    def _decide(self, results: Sequence[TrialResult], members: int, done: Remeasured) -> None:
        """By what the dense model took on all samples."""
        if done.reason is None:
            total = len(self._problem.data.test)
            settled = [made for made in self._study.finals.settled.values() if made is not None]
            growing = sum(done.durations_s.get(name, 0.0) for name in self._growing(done, total))
            samples = affordable(
                total,
                members=members,
                spare_s=_SHARE * _seconds(results) - _seconds(settled),
                growing_s=growing,
                fixed_s=sum(done.durations_s.values()) - growing,
            )
            self._study.record_part(samples, total)
        self._record(done, whole=done.reason is None and samples < total)

    def _growing(self, done: Remeasured, total: int) -> list[str]:
        """Names of the evaluators that took every sample, as far as their metrics tell."""
        return [
            each.metric_name(each.name)
            for each in self._problem.components.evaluators
            if any(done.metrics[metric.name].samples in (None, total) for metric in each.produces(self._problem.data))
        ]

    def _remeasuring(self, result: TrialResult, samples: int, then: Callable[[Remeasured], None]) -> Asked:
        part = None if samples == len(self._problem.data.test) else samples
        dense = result.origin == "dense"
        return Remeasure(number=result.number, dense=dense, choices=result.knobs, samples=part), then

    def _record(self, done: Remeasured, *, whole: bool = False) -> None:
        if done.reason is None:
            self._study.record_test(done.number, done.metrics, whole=whole)
        else:
            self._failed.add(done.number)
            log.warning("trial %d could not be measured on the test split: %s", done.number, done.reason)

    def _join(self, front: Sequence[TrialResult]) -> None:
        """Have every evaluator that can tell measure what the front's pruned models come to together."""
        numbers, finals = pruned_members(front), self._study.finals
        samples, total = finals.part or (None, None)
        jobs: list[Asked] = [
            (Join(evaluator=name, numbers=numbers, samples=None if samples == total else samples), self._record_joined)
            for name, evaluator in numbered(self._problem.components.evaluators).items()
            if type(evaluator).of_front is not Evaluator.of_front
            and (name not in finals.together or finals.together[name][0] != numbers)
        ]
        if numbers:
            self._do("measuring the front together", jobs)

    def _record_joined(self, done: Joined) -> None:
        if done.reason is None:
            self._study.record_together(done.evaluator, done.numbers, done.metrics)
        else:
            log.warning("what the front's models come to together could not be measured: %s", done.reason)

    def _export(self, front: Sequence[TrialResult]) -> None:
        """Have every exporter write every model of the front."""
        exporters = numbered(self._problem.components.exporters)
        models = {result.number: model_folder(self._folder.path, result.number) for result in front}
        jobs: list[Asked] = [
            (Export(number=number, exporter=name, model=model), _note_export)
            for number, model in models.items()
            for name in missing_exports(model, exporters)
        ]
        self._do("exporting the front", jobs)

    def _do(self, doing: str, jobs: Sequence[Asked]) -> None:
        """Have jobs done, and tell how far that is."""
        done = 0

        def take(then: Callable[[Any], None], answer: Any) -> None:
            nonlocal done
            then(answer)
            done += 1
            self._observers.finished_member(self._info, doing, done, len(jobs))

        if jobs:
            self._observers.finished_member(self._info, doing, done, len(jobs))
        for job, then in jobs:
            self._dispatcher.submit(job, partial(take, then))
        self._finish_jobs()


def affordable(total: int, *, members: int, spare_s: float, growing_s: float, fixed_s: float) -> int:
    """On how many samples of a split the dense model and the front can be measured in some time.

    Whole where that is enough for all. Else the dense model and one member are measured on all samples, too, and what
    is left goes to the others: a round number of samples, and 1,000 at least.

    Args:
        total: Samples of the split.
        members: Models to measure besides the dense one, which was measured on all samples just now.
        spare_s: Seconds to spend, that included.
        growing_s: What it took in evaluators that go through all samples.
        fixed_s: What it took in the others.
    """
    once = growing_s + fixed_s
    if (1 + members) * once <= spare_s:
        return total
    left = spare_s - 2 * once - (1 + members) * fixed_s
    samples = max(_LEAST, total * left / ((1 + members) * growing_s) if growing_s else 0.0)
    return min(total, round_down(samples))


def round_down(number: float) -> int:
    """To 1, 2 or 5 and zeros, so that a clock that differs a little decides the same; 0 below 1."""
    if number < 1:
        return 0
    power = int(10 ** math.floor(math.log10(number)))
    return max(power * lead for lead in (1, 2, 5) if power * lead <= number)


def _seconds(results: Sequence[TrialResult]) -> float:
    return sum((result.finished - result.started).total_seconds() for result in results)


def _note_export(done: Exported) -> None:
    if done.reason is not None:
        log.warning("the model of trial %d could not be exported by %s: %s", done.number, done.exporter, done.reason)
