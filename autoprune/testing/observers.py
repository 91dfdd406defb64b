"""Kit for observers. What they see is made up: a study of four trials, one of each fate."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autoprune.plugin import (
    Front,
    FrontPoint,
    GroupSummary,
    Measured,
    Observer,
    ObserverContext,
    StudyInfo,
    StudyOutcome,
    TrialResult,
)
from autoprune.spec import Spec
from autoprune.testing.components import ComponentConformance

if TYPE_CHECKING:
    from pydantic import BaseModel

    from autoprune.plugin import Facts
    from autoprune.plugin.results import TrialState

_TIME = datetime(2020, 1, 1, tzinfo=UTC)
_STATES: tuple[TrialState, ...] = ("complete", "complete", "failed", "rejected")
_OWN = ("spec.yaml", "study.json", "info.json", "journal.log", "summary.md", "models/1/model.safetensors")


class ObserverConformance(ComponentConformance):
    """Tests of an observer."""

    contract = Observer

    @pytest.fixture
    def study(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyInfo:
        """A study that has not begun; the current folder is another one. Override it to have another spec."""
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        return _study(tmp_path / "study")

    def test_takes_what_it_is_told(self, component: Observer, study: StudyInfo) -> None:
        """Trials of every fate, in their order."""
        told = _Told(component, study)
        told.session()

    def test_facts_are_text(self, component: Observer, study: StudyInfo) -> None:
        """What the user is to be told is text by name, or there is nothing to tell."""
        facts = _Told(component, study).session(told=0)
        if facts is not None:
            assert isinstance(facts, Mapping), f"study_started returns a {type(facts).__name__}"
            odd = [f"{name!r}: {value!r}" for name, value in facts.items() if not _texts(name, value)]
            assert not odd, f"facts are text by name, not {odd[0]}"

    def test_changes_nothing_that_it_is_given(self, component: Observer, study: StudyInfo) -> None:
        """Study, trials and outcome are as they were: others are told of them, too."""
        told = _Told(component, study)
        seen: list[BaseModel] = [study, *told.trials, told.outcome(len(told.trials))]
        before = [each.model_dump_json() for each in seen]
        told.session()
        changed = [type(e).__name__ for e, text in zip(seen, before, strict=True) if e.model_dump_json() != text]
        assert not changed, f"it changed the {changed[0]} that it was given"

    def test_keeps_to_its_folder(self, component: Observer, study: StudyInfo) -> None:
        """Files go into ``ctx.folder``: not among the study's, and not where the search was started."""
        told = _Told(component, study)
        before = _files(study.folder.parent)
        told.session()
        after = {path: text for path, text in _files(study.folder.parent).items() if told.folder not in path.parents}
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        assert not changed, f"it wrote or removed {changed[0].relative_to(study.folder.parent)}; there is ctx.folder"

    def test_goes_on_when_a_study_is_resumed(self, component: Observer, study: StudyInfo) -> None:
        """In another process, where ``ctx.memo`` is empty: after half of the trials, and when none is left to do."""
        told = _Told(component, study)
        told.session(told=2)
        told.session(known=2)
        told.session(known=len(told.trials))

    def test_takes_a_session_without_a_trial(self, component: Observer, study: StudyInfo) -> None:
        """One that is interrupted at once, and has no front."""
        _Told(component, study).session(told=0)


class _Told:
    """Tells an observer what happens, as the coordinator does."""

    def __init__(self, observer: Observer, study: StudyInfo) -> None:
        self.folder = study.folder / "observers" / observer.name
        self.folder.mkdir(parents=True)
        self.trials = tuple(_trial(number, study) for number in range(len(_STATES)))
        self._observer = observer
        self._study = study
        self._outcomes: dict[int, StudyOutcome] = {}

    def session(self, *, known: int = 0, told: int | None = None) -> Facts | None:
        """One session.

        Args:
            known: Trials of earlier sessions.
            told: After how many trials in all it is interrupted; it is not if None.

        Returns:
            The facts.
        """
        cache: dict[Hashable, Any] = {}
        ctx = ObserverContext(seed=0, cache=cache, folder=self.folder)
        study = self._study.model_copy(update={"finished": self.trials[:known]}) if known else self._study
        facts = self._observer.study_started(study, ctx)
        end = len(self.trials) if told is None else told
        for result in self.trials[known:end]:
            self._observer.probe_finished(study, result.number, len(self.trials), ctx)
            self._observer.trial_finished(study, result, ctx)
        self._observer.member_finished(study, "measuring the front on the test split", 0, 1, ctx)
        self._observer.study_finished(study, self.outcome(end), ctx)
        return facts

    def outcome(self, end: int) -> StudyOutcome:
        """After so many trials; always the same one."""
        if end not in self._outcomes:
            self._outcomes[end] = _outcome(self.trials[:end], self._study, interrupted=end < len(self.trials))
        return self._outcomes[end]


def _study(folder: Path) -> StudyInfo:
    spec = Spec(
        name="conformance",
        model={"use": "none"},
        data={"use": "none"},
        evaluators=[{"use": "none"}],
        objectives={"accuracy": "maximize", "params": "minimize"},
        constraints={"accuracy": ">= 0.5"},
    )
    for name in _OWN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the study's own {name}", encoding="utf-8")
    return StudyInfo(
        name=spec.name,
        folder=folder,
        spec=spec,
        spec_text="name: conformance\n",
        trials=len(_STATES),
        objectives=spec.objectives,
        constraints={name: str(bound) for name, bound in spec.constraints.items()},
        units={"accuracy": "fraction", "params": "parameters"},
        costs=("params",),
        groups=(
            GroupSummary(name="stem", units=8, granularity="channel", layers=("stem", "outer"), low=0.0, high=0.8),
            GroupSummary(name="top", units=12, granularity="channel", layers=("top",), low=0.0, high=0.0),
        ),
        environment={"python": "3.11", "torch": "2", "device": "cpu", "seed": "0", "spec_hash": "0"},
    )


def _trial(number: int, study: StudyInfo) -> TrialResult:
    state = _STATES[number]
    accuracy = 0.9 - 0.1 * number
    metrics = {
        "accuracy": Measured(value=accuracy, low=accuracy - 0.02, high=accuracy + 0.02, samples=64),
        "params": Measured(value=1000.0 - 200 * number),
    }
    known = {"complete": list(metrics), "failed": [], "rejected": ["params"]}[state]
    reason = {"complete": None, "failed": "one-shot: no more memory", "rejected": "accuracy is below 0.5"}[state]
    return TrialResult(
        number=number,
        state=state,
        origin="sampler" if number else "dense",
        ratios={"stem": 0.2 * number},
        achieved={"stem": 0.25 * number},
        scorers={"stem": "l1"} if number else {},
        strategy="one-shot",
        knobs={"strategy.recover.lr": 0.01, "scorer.norm": "l1"},
        metrics={name: metrics[name] for name in known},
        violations={"accuracy": 0.5 - accuracy} if state == "complete" else {},
        durations_s={"cut": 0.01, "accuracy": 0.02},
        reason=reason,
        model=study.folder / "models" / "1" if number == 1 else None,
        seed=number,
        started=_TIME,
        finished=_TIME,
    )


def _outcome(trials: tuple[TrialResult, ...], study: StudyInfo, *, interrupted: bool) -> StudyOutcome:
    front = tuple(FrontPoint(trial=trial, test=trial.metrics) for trial in trials if trial.state == "complete")
    return StudyOutcome(
        trials=trials,
        front=Front(
            points=front,
            objectives=study.objectives,
            hypervolume=100.0 * len(front),
            reference={"accuracy": 0.0, "params": 1100.0} if trials else {},
        ),
        dense_test=trials[0].metrics if trials else {},
        interrupted=interrupted,
    )


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _texts(*values: object) -> bool:
    return all(isinstance(value, str) for value in values)
