"""Keeps MLflow in step with one study, whatever happens to MLflow."""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections import Counter
from collections.abc import Callable, Sequence

from autoprune.errors import StructureError
from autoprune.host.plugins import PluginHost
from autoprune.plugin.front import RunningFront
from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome, TrialResult
from autoprune.report import named_member, point_verdict, verdict
from autoprune.spec.secrets import hint_of, holds_password, masked
from autoprune.tracking import _records as records
from autoprune.tracking._descriptions import Described, counts, member_table, study_note
from autoprune.tracking._pages import save_pages
from autoprune.tracking._state import mark_of, note, own_uri
from autoprune.tracking._store import Store, cause_of, quietly
from autoprune.tracking._stored import StoredRun
from autoprune.tracking._view import SharedView, loading_order, shown_on
from autoprune.tracking.links import facts_of

log = logging.getLogger("autoprune")

_PATIENCE = 10


class Recorder:
    """Records what the study has and MLflow lacks, at each hook.

    There is one way to record, for a new trial as for those missed while the server was away and those of a killed
    session: compare and catch up. A failure costs the search little: after an attempt that failed, the next one waits
    ten times as long as that one took, except at the end of the study.
    """

    _searches = True
    """Whether a session of the study is at work, whose environment its run is to tell."""

    def __init__(self, study: StudyInfo, *, elsewhere: str | None = None) -> None:
        """Of a study, in its own store, or elsewhere, which leaves the own one the study's."""
        self.sent: Counter[str] = Counter()
        """How many ``trials`` and ``models`` were recorded that MLflow lacked."""
        self._study = study
        self._elsewhere = elsewhere
        self._results: dict[int, TrialResult] = {}
        self._front = RunningFront(study.objectives)
        self._learn(study.finished)
        self._uri = elsewhere or own_uri(study)
        self._store: Store | None = None
        """Open, and in step with what follows; None before the first attempt and after one that failed."""
        self._experiment = self._parent = ""
        self._mark = ""
        """Of the study, which its runs and models bear."""
        self._children: dict[int, str] = {}
        """Run ids of the trials that are recorded completely."""
        self._halves: dict[int, str] = {}
        """Run ids of the trials whose recording was broken off."""
        self._marked: set[int] = set()
        """Numbers of the trials that MLflow takes for members of the front."""
        self._concluded = False
        self._wait_until = 0.0
        self._warned = False
        self._late = False
        """Whether MLflow could not be reached when the session began."""

    def start(self) -> dict[str, str] | None:
        """Open or create the study's run. Gives what the user should know, or None where MLflow cannot be reached."""
        self._late = not self._attempt("trials", self._catch_up)
        return None if self._late else self._begun()

    def _begun(self) -> dict[str, str]:
        self._attempt("the spec", lambda store: store.text(self._parent, "spec.yaml", self._study.spec_text))
        return facts_of(self._uri, experiment=self._experiment, run=self._parent)

    def add(self, result: TrialResult) -> None:
        """Record a trial."""
        self._learn([result])
        if time.monotonic() >= self._wait_until and self._attempt("trials", self._catch_up):
            self._tell_if_late()

    def finish(self, outcome: StudyOutcome) -> None:
        """Record what is missing and how the study ended."""
        self._results, self._front = {}, RunningFront(self._study.objectives)
        self._learn(outcome.trials)
        if not self._attempt("trials", self._catch_up, final=True):
            return
        self._tell_if_late()
        self._attempt("the front", lambda store: self._conclude(store, outcome), final=True)
        self._attempt("the report", lambda store: self._store_report(store, outcome), final=True)
        self._attempt("the models", lambda store: self._store_models(store, outcome), final=True)
        if self._store is not None:
            self._store.checkpoint()

    def _tell_if_late(self) -> None:
        """Once, where the link could not be given at the start."""
        if self._late:
            self._late = False
            facts = self._begun()
            where = facts.get("view") or facts.get("hint") or facts["tracking_uri"]
            log.info("MLflow has study %s now: %s", self._study.name, where)

    def _learn(self, results: Sequence[TrialResult]) -> None:
        for result in results:
            self._results[result.number] = result
            self._front.add(result)

    def _attempt(self, what: str, step: Callable[[Store], None], *, final: bool = False) -> bool:
        """Take a step; whatever it raises is told and ends there."""
        started = time.monotonic()
        done = False
        try:
            with quietly():
                if self._store is None:
                    self._store = self._connect()
                else:
                    self._store.check()
                step(self._store)
            done = True
        except Exception as error:  # noqa: BLE001 - a tracker must not stop a search, whatever MLflow raises
            self._wait_until = time.monotonic() + _PATIENCE * (time.monotonic() - started)
            self._warn(what, error, final=final)
        finally:
            if not done:  # also after Ctrl-C: what is half done is found when we connect again
                self._store = None
        return done

    def _warn(self, what: str, error: Exception, *, final: bool) -> None:
        """Once while the study runs; at its end for each thing that is missing in MLflow."""
        cause = f"{cause_of(error, self._uri)}{hint_of(self._uri)}"
        if final:
            missing = len(self._results.keys() - self._children.keys())
            what = f"{missing} of {len(self._results)} trials" if what == "trials" else what
            log.warning(
                "MLflow at %s lacks %s of study %s; send what is missing with: autoprune sync %s. %s",
                masked(self._uri, whole=True), what, self._study.name, shlex.quote(str(self._study.folder)), cause,
            )  # fmt: skip
        elif not self._warned:
            log.warning(
                "MLflow at %s cannot record %s. The search goes on; what is missing is recorded when MLflow works. %s",
                masked(self._uri, whole=True), what, cause,
            )  # fmt: skip
            self._warned = True

    def _connect(self) -> Store:
        """Find the study's run and its children, and mend what a kill or an outage left behind."""
        self._mark = mark_of(self._study.folder)
        self._uri = self._elsewhere or own_uri(self._study)
        store = Store(self._uri)
        self._experiment = store.experiment(self._study.spec.tracking.experiment or self._study.spec.name)
        tags = records.study_tags(self._study, self._mark)
        params = records.study_params(self._study)
        runs = store.runs(self._experiment, "autoprune.study", self._mark)
        if runs:
            run = runs[0]
            self._parent = run.run_id
            if not self._concluded:
                store.reopen(self._parent)
                missing = {name: value for name, value in params.items() if name not in run.params}
                if not self._searches:
                    tags = {n: v for n, v in tags.items() if n not in run.tags or not n.startswith("env.")}
                store.log(self._parent, params=missing, tags=tags)
        else:
            self._parent = store.create(self._experiment, self._study.name, start_ms=None, tags=tags)
            store.log(self._parent, params=params)
        if self._study.datasets and not self._concluded:
            store.inputs(self._parent, *records.study_data(self._study), self._study.datasets)
        if self._elsewhere is None:
            known = {} if holds_password(self._uri, whole=True) else {"tracking_uri": self._uri}
            note(self._study.folder, {"run_id": self._parent, "experiment_id": self._experiment, **known})
        self._children, self._halves, self._marked = {}, {}, set()
        for run in store.runs(self._experiment, "mlflow.parentRunId", self._parent):
            if run.tags.get("autoprune.role") == "trial":
                self._take_stock(store, run)
        if not self._concluded:
            self._save_pages(store)
        return store

    def _save_pages(self, store: Store, *, on_front: int = 0) -> None:
        views = (
            SharedView(self._study, self._parent, shown=on_front),
            SharedView(self._study, self._parent, everything=True, shown=len(self._results) or self._study.trials),
        )
        try:
            save_pages(store, self._experiment, *views)
        except Exception as error:  # noqa: BLE001 - the page is a convenience that not every server takes
            log.debug("MLflow did not take the experiment's page: %s", cause_of(error, self._uri))

    def _take_stock(self, store: Store, run: StoredRun) -> None:
        """Sort a trial's run into the complete, the half-written, and those that should not be there."""
        number = int(run.tags["autoprune.trial"])
        if number not in self._results or number in self._children or (number in self._halves and not run.ended):
            store.delete(run.run_id)  # of a trial that the study does not know, or one more of the same trial
        elif run.ended:
            if number in self._halves:
                store.delete(self._halves.pop(number))
            self._children[number] = run.run_id
            if run.tags.get("autoprune.front") == "true":
                self._marked.add(number)
        else:
            self._halves[number] = run.run_id

    def _catch_up(self, store: Store) -> None:
        """Record every trial that lacks a complete run, and who is on the front."""
        for number in sorted(self._results.keys() - self._children.keys()):
            self._record(store, self._results[number])
        members = {result.number for result in self._front.members}
        for number in sorted(members ^ self._marked):
            tags = records.standing(self._results[number], on_front=number in members)
            store.log(self._children[number], tags=tags)
            self._marked ^= {number}

    def _record(self, store: Store, result: TrialResult) -> None:
        """One run for a trial; the last step is its status, so that a run which has ended is complete."""
        on_front = result.number in self._front
        tags = records.trial_tags(self._study, result, self._parent) | records.standing(result, on_front=on_front)
        run_id = self._halves.pop(result.number, None)
        if run_id is None:
            start = records.milliseconds(result.started)
            run_id = store.create(self._experiment, records.trial_name(self._study, result), start_ms=start, tags=tags)
            tags = {}
        end = records.milliseconds(result.finished)
        # The same values at the same moment are stored once: writing a half-written run again is harmless.
        metrics = records.trial_metrics(self._study, result)
        store.log(run_id, metrics=metrics, params=records.trial_params(result), tags=tags, at_ms=end)
        if result.traceback:
            store.text(run_id, "traceback.txt", masked(result.traceback))
        store.end(run_id, records.STATUS[result.state], end_ms=end)
        self._children[result.number] = run_id
        self.sent["trials"] += 1
        if on_front:
            self._marked.add(result.number)

    def _conclude(self, store: Store, outcome: StudyOutcome) -> None:
        """The front's notes and test values, the study's numbers, its verdict and its status."""
        members = {point.trial.number: point for point in outcome.front.points}
        order = loading_order(self._study, outcome)
        for number, run_id in self._children.items():
            tags = order.get(number, {})
            if point := members.get(number):
                tags |= self._standing(outcome, point)
                store.log(run_id, tags=tags, metrics=records.member_metrics(point))
            elif number in self._marked:
                store.log(run_id, tags=tags | records.standing(self._results[number], on_front=False))
            elif tags:
                store.log(run_id, tags=tags)
        self._marked = set(members)
        described = self._described(outcome)
        tags = {
            "autoprune.verdict": described.verdict,
            "autoprune.counts": described.counts,
            "mlflow.note.content": study_note(self._study, outcome, described),
            "autoprune.hypervolume_reference": json.dumps(outcome.front.reference),
        }
        store.log(self._parent, metrics=records.study_metrics(outcome), tags=tags)
        store.end(self._parent, "KILLED" if outcome.interrupted else "FINISHED" if members else "FAILED")
        self._concluded = True
        self._save_pages(store, on_front=len(shown_on(outcome)))

    def _described(self, outcome: StudyOutcome) -> Described:
        told = verdict(self._study, outcome), counts(self._study, outcome)
        return Described(self._experiment, self._parent, str(self._study.folder), *told)

    def _store_report(self, store: Store, outcome: StudyOutcome) -> None:
        files = records.artifacts(self._study, outcome)
        for name, text in files.items():
            store.text(self._parent, name, text)
        tables = [{"path": name, "type": "table"} for name in files if name == "front_table.json"]
        store.log(self._parent, tags={"mlflow.loggedArtifacts": json.dumps(tables)})

    def _standing(self, outcome: StudyOutcome, point: FrontPoint, opening: str = "") -> dict[str, str]:
        """The tags of a member of the front."""
        return records.standing(point.trial, on_front=True, sentence=self._sentence(outcome, point), opening=opening)

    def _sentence(self, outcome: StudyOutcome, point: FrontPoint) -> str:
        since = records.since_the_trials(self._study, outcome, point)
        sentence = f"{point_verdict(self._study, outcome, point)} {since}".strip()
        return f"{sentence}\n\n{member_table(self._study, outcome, point)}"

    def _store_models(self, store: Store, outcome: StudyOutcome) -> None:
        from autoprune.tracking._models import MemberModel, store_models  # PyTorch, which a study has loaded

        members, host = {}, PluginHost()
        for point in outcome.front.points:
            run_id, folder = self._children[point.trial.number], point.trial.model
            if folder is None or not folder.is_dir():
                continue
            try:
                member = MemberModel.of(self._study, point, run_id, folder, host=host)
                members[member] = self._sentence(outcome, point)
            except StructureError as error:
                log.warning("MLflow lacks the model of trial %d: %s", point.trial.number, error)
        self.sent["models"] += store_models(store, self._experiment, self._mark, members)
        named = named_member(self._study, outcome)
        for member in members:
            tags = self._standing(outcome, member.point, member.how_to_open)
            store.log(member.run_id, tags={**tags, "autoprune.model": member.uri})
            if member.point == named:
                note = study_note(self._study, outcome, self._described(outcome), member.how_to_open)
                store.log(self._parent, tags={"mlflow.note.content": note})
