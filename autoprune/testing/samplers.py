"""Kit for samplers. They run in a study of the host's own, kept in a journal file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from autoprune.plugin import Choice, Choices, Cost, Knob, Measured, Metric, Range, Sampler, SearchedGroup, TrialResult
from autoprune.spec import Search, Spec
from autoprune.study.guide import Guide
from autoprune.study.jobs import Cut, Effect, Probed
from autoprune.study.proposal import Params, Proposal
from autoprune.study.storage import Study
from autoprune.testing.components import ComponentConformance

if TYPE_CHECKING:
    from autoprune.plugin.results import TrialState

_RATIOS = (Range("ratio.stem", 0.0, 0.8), Range("ratio.top", 0.1, 0.5))
_RANK = Range("low-rank.top", 0.25, 1.0, usual=1.0)
_KNOBS: tuple[Knob, ...] = (
    Choice("strategy", ("one-shot", "iterative")),
    Range("strategy.recover.lr", 1e-4, 1e-1, log=True),
    Range("strategy.recover.epochs", 1, 8, whole=True),
    _RANK,
)
_GROUPS = tuple(
    SearchedGroup(
        name=p.name.removeprefix("ratio."),
        units=units,
        step=1,
        fewest=math.ceil(p.low * units),
        most=math.floor(p.high * units),
        parameter=p.name,
        low=p.low,
        high=p.high,
    )
    for p, units in zip(_RATIOS, (40, 60), strict=True)
)
_TIME = datetime(2020, 1, 1, tzinfo=UTC)


class SamplerConformance(ComponentConformance):
    """Tests of a sampler."""

    contract = Sampler
    objectives: ClassVar[int] = 3
    """How many objectives the tests have."""
    trials: ClassVar[int] = 12
    """Trials of a study; more than the algorithm begins with at random."""

    def test_proposes_within_the_bounds(self, component: Sampler, tmp_path: Path) -> None:
        """Ratios and numbers stay between their bounds, whole ones are whole, and choices are among the options."""
        for params in self._search(component, tmp_path):
            for knob in (*_RATIOS, *_KNOBS):
                value = params[knob.name]
                if isinstance(knob, Range):
                    assert isinstance(value, float)
                    assert knob.low <= value <= knob.high, f"{knob.name} is {value}"
                    assert not knob.whole or value.is_integer(), f"{knob.name} is {value}"
                else:
                    assert value in knob.options, f"{knob.name} is {value}"

    def test_proposals_hang_on_the_seed_alone(self, component: Sampler, tmp_path: Path) -> None:
        """The same seed gives the same proposals, and another one gives others."""
        first, again, other = (
            self._search(component, tmp_path / str(n), seed=seed) for n, seed in enumerate((0, 0, 1))
        )
        assert first == again, "the same seed gave other proposals"
        assert first != other, "another seed gave the same proposals"

    def test_its_state_is_the_study_alone(self, component: Sampler, tmp_path: Path) -> None:
        """A study that is closed and opened again, as `autoprune resume` does, goes on as if nothing had happened."""
        straight = self._search(component, tmp_path / "straight")
        half = self.trials - 2
        begun = self._search(component, tmp_path / "resumed", trials=half)
        assert begun + self._search(component, tmp_path / "resumed", trials=2, new=False) == straight

    def test_proposals_vary(self, component: Sampler, tmp_path: Path) -> None:
        """Hardly any proposal is made twice."""
        proposals = {tuple(params.values()) for params in self._search(component, tmp_path)}
        assert len(proposals) > self.trials // 2, f"{self.trials} trials had {len(proposals)} different proposals"

    @pytest.mark.parametrize("objectives", [1, 2, 4])
    def test_any_number_of_objectives_works_or_is_refused(
        self, component: Sampler, objectives: int, tmp_path: Path
    ) -> None:
        """What the algorithm cannot do is refused, with a reason."""
        refusal = component.refuses({f"metric{n}": "minimize" if n % 2 else "maximize" for n in range(objectives)})
        assert refusal != "", "a refusal needs a reason"
        if refusal is None:
            assert len(self._search(component, tmp_path, objectives=objectives)) == self.trials

    def _search(
        self,
        component: Sampler,
        folder: Path,
        *,
        seed: int = 0,
        trials: int | None = None,
        objectives: int | None = None,
        new: bool = True,
    ) -> list[Params]:
        """What a short study proposes; every fifth of its trials fails or is rejected, and it has a constraint."""
        folder.mkdir(exist_ok=True)
        names = [f"metric{n}" for n in range(objectives or self.objectives)]
        spec = Spec(
            name="conformance",
            model={"use": "none"},
            data={"use": "none"},
            evaluators=[{"use": "none"}],
            objectives={name: "minimize" if n % 2 else "maximize" for n, name in enumerate(names)},
            constraints={"metric0": ">= 0.2"},
            search=Search(seed=seed),
        )
        journal = folder / "journal.log"
        study = Study(spec.name, spec=spec, guide=_guide(names), sampler=component, journal=journal, new=new)
        asked = []
        try:
            study.enqueue([("dense", {"ratio.stem": 0.0, "ratio.top": 0.1, **_chosen({})})])
            for _ in range(trials or self.trials):
                # Some is measured before each candidate, as in a search.
                for cut in study.rankings.next(3) if study.begun else ():
                    study.record_probe(Probed(effects=(_effect(cut),)))
                proposal = study.ask()
                study.tell(_result(proposal, names))
                asked.append(proposal.params)
        finally:
            study.close()
        return asked


def _guide(names: Sequence[str]) -> Guide:
    """A model of two layers, the second of which reads the first and may get a lower rank."""

    def costs(cut_units: NDArray[np.int64], choices: Sequence[Choices] | None) -> dict[str, NDArray[np.float64]]:
        stem, top = (group.units - cut_units[:, column] for column, group in enumerate(_GROUPS))
        rank = np.array([float(_chosen(each)[_RANK.name]) for each in choices or [{}] * len(cut_units)])
        total = 27.0 * stem + np.minimum(stem * top, rank * np.minimum(stem, top) * (stem + top))
        return {"params": total, "macs": 100 * total, "bytes": 4 * total, "nonzero": total}

    return Guide(
        parameters=(*_RATIOS, *_KNOBS),
        metrics={n: Metric(n, "", "minimize" if i % 2 else "maximize", Cost.FORWARD) for i, n in enumerate(names)},
        groups=_GROUPS,
        scorers=("l1", "taylor"),
        knobs=_KNOBS,
        meetings=((0, 1),),
        costs=costs,
        priced=frozenset({_RANK.name}),
    )


def _chosen(params: Choices) -> Params:
    """The knobs besides the ratios: as given, or as they usually are."""
    return {knob.name: params.get(knob.name, knob.default) for knob in _KNOBS}


def _effect(cut: Cut) -> Effect:
    """Made up: the second layer is the touchier one."""
    scale, group = next((n, group) for n, group in enumerate(_GROUPS, start=1) if group.name == cut.group)
    share = scale * cut.units / group.units
    return Effect(cut=cut, divergence=share**2, agreement=1 - share / 3)


def _result(proposal: Proposal, names: list[str]) -> TrialResult:
    """A made-up result: the more goes, the better is every other metric, and the worse are the rest."""
    ratios = {ratio.name: float(proposal.params[ratio.name]) for ratio in _RATIOS}
    gone = sum(ratios.values()) / len(ratios)
    metrics = {name: Measured(value=(gone if n % 2 else 1 - gone) + 0.01 * n) for n, name in enumerate(names)}
    states: dict[int, TrialState] = {3: "failed", 4: "rejected"}
    state = states.get(proposal.number % 10, "complete")
    return TrialResult(
        number=proposal.number,
        state=state,
        origin=proposal.origin,
        ratios=ratios,
        achieved={name.removeprefix("ratio."): ratio for name, ratio in ratios.items()},
        scorers=dict.fromkeys((group.name for group in _GROUPS), "l1"),
        strategy=str(proposal.params["strategy"]),
        knobs=_chosen(proposal.params),
        metrics=metrics if state == "complete" else {},
        violations={"metric0": 0.2 - metrics["metric0"].value} if state != "failed" else {},
        reason=None if state == "complete" else "made up",
        seed=0,
        started=_TIME,
        finished=_TIME,
    )
