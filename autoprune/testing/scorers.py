"""Kit for scorers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.plugin import Scorer
from autoprune.testing.components import BenchConformance
from autoprune.testing.expectations import assert_equal

if TYPE_CHECKING:
    from autoprune.testing.bench import Bench


class ScorerConformance(BenchConformance):
    """Tests of a scorer."""

    contract = Scorer

    def test_scores_every_unit_of_every_group(self, component: Scorer, bench: Bench) -> None:
        """Scores are finite and of shape (U,), and the network they come from stays as it was."""
        assert bench.score(component).keys() == {group.name for group in bench.structure.groups}

    def test_scores_hang_on_the_seed_alone(self, component: Scorer, bench: Bench) -> None:
        """The same seed gives the same scores, whatever ran before."""
        assert_equal(bench.score(component, seed=3), bench.score(component, seed=3), "scores")

    def test_scores_do_not_hang_on_the_order_of_groups(self, component: Scorer, bench: Bench) -> None:
        """What is kept between groups (`ctx.memo`) does not leak from one into the other."""
        assert_equal(bench.score(component), bench.score(component, backwards=True), "scores")
