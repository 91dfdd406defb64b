"""Kit for samplers. They run in a study of the host's own, kept in a journal file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from autoprune.plugin import Measured, Sampler, TrialResult
from autoprune.search.space import Choice, Params, Proposal, Range
from autoprune.search.study import Study
from autoprune.spec import Search, Spec
from autoprune.testing.components import ComponentConformance

if TYPE_CHECKING:
    from autoprune.plugin.results import TrialState

_PARAMETERS = (Range("ratio:stem", 0.0, 0.8), Range("ratio:top", 0.1, 0.5), Choice("scorer", ("l1", "taylor")))
_TIME = datetime(2020, 1, 1, tzinfo=UTC)


class SamplerConformance(ComponentConformance):
    """Tests of a sampler."""

    contract = Sampler
    objectives: ClassVar[int] = 3
    """How many objectives the tests have."""
    trials: ClassVar[int] = 12
    """Trials of a study; more than the algorithm begins with at random."""

    def test_proposes_within_the_bounds(self, component: Sampler, tmp_path: Path) -> None:
        """Ratios stay between their bounds, and choices are among the options."""
        for params in self._search(component, tmp_path):
            for parameter in _PARAMETERS:
                value = params[parameter.name]
                if isinstance(parameter, Range):
                    assert isinstance(value, float)
                    assert parameter.low <= value <= parameter.high, f"{parameter.name} is {value}"
                else:
                    assert value in parameter.options

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
        """What the algorithm cannot do raises a ValueError when it is built, with a reason."""
        refusal = None
        try:
            component.build(seed=0, objectives=objectives)
        except ValueError as error:
            refusal = str(error)
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
        study = Study(spec.name, spec=spec, parameters=_PARAMETERS, sampler=component, journal=journal, new=new)
        asked = []
        try:
            for _ in range(trials or self.trials):
                proposal = study.ask()
                study.tell(_result(proposal, names))
                asked.append(proposal.params)
        finally:
            study.close()
        return asked


def _result(proposal: Proposal, names: list[str]) -> TrialResult:
    """A made-up result: the more goes, the better is every other metric, and the worse are the rest."""
    ratios = {name: value for name, value in proposal.params.items() if isinstance(value, float)}
    gone = sum(ratios.values()) / len(ratios)
    metrics = {name: Measured(value=(gone if n % 2 else 1 - gone) + 0.01 * n) for n, name in enumerate(names)}
    states: dict[int, TrialState] = {3: "failed", 4: "rejected"}
    state = states.get(proposal.number % 10, "complete")
    return TrialResult(
        number=proposal.number,
        state=state,
        origin=proposal.origin,
        ratios=ratios,
        achieved=ratios,
        scorer="l1",
        strategy="one-shot",
        metrics=metrics if state == "complete" else {},
        violations={"metric0": 0.2 - metrics["metric0"].value} if state != "failed" else {},
        reason=None if state == "complete" else "made up",
        seed=0,
        started=_TIME,
        finished=_TIME,
    )
