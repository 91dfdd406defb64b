"""The scorer that measures which of several scorers does least harm to a group."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch

from autoprune import SpecError, TrialError, load_spec
from autoprune.plugin import Group, ScoreContext, Scorer, Sensitivity
from autoprune.plugin.binding import bind
from autoprune.plugin.host import PluginHost
from autoprune.testing import Bench
from autoprune_scorers.best_of import BestOf
from autoprune_scorers.magnitude import L1, L2
from autoprune_scorers.random_order import RandomOrder
from autoprune_scorers.taylor import Taylor


class Upwards(Scorer):
    """Later units are better."""

    name = "upwards"

    def score(self, group: Group, ctx: ScoreContext) -> torch.Tensor:
        return torch.arange(float(group.units))


class Downwards(Scorer):
    """Earlier units are better; groups named so cannot be ranked."""

    name = "downwards"

    refused: ClassVar[tuple[str, ...]] = ()

    def score(self, group: Group, ctx: ScoreContext) -> torch.Tensor:
        if group.name in self.refused:
            raise TrialError(f"not {group.name}")
        return -torch.arange(float(group.units))


def harm(of: dict[bool, tuple[float, ...]]):
    """Sensitivity by whether the last unit is the best."""

    def measured(group: Group, scores: torch.Tensor) -> Sensitivity:
        divergence = of[bool(scores[-1] > scores[0])]
        return Sensitivity(cut_units=(1, 2), divergence=divergence, agreement=(1.0, 1.0))

    return measured


@pytest.mark.parametrize(
    ("upwards", "downwards", "best"),
    [((0.1, 1.0), (0.2, 2.0), Upwards), ((0.1, 1.0), (0.01, 2.0), Downwards), ((0.0, 1.0), (1e-5, 0.5), Downwards)],
)
def test_least_harm_is_by_the_mean_logarithm(group: Group, ctx: ScoreContext, upwards, downwards, best) -> None:
    measured = dataclasses.replace(ctx, sensitivity=harm({True: upwards, False: downwards}))
    chosen = BestOf(scorers=[Upwards(), Downwards()]).score(group, measured)
    assert torch.equal(chosen, best().score(group, ctx))


def test_a_scorer_that_cannot_rank_a_group_takes_no_part(
    group: Group, ctx: ScoreContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Downwards, "refused", (group.name,))
    ctx = dataclasses.replace(ctx, sensitivity=harm({True: (9.0, 9.0)}))
    assert torch.equal(BestOf(scorers=[Downwards(), Upwards()]).score(group, ctx), Upwards().score(group, ctx))
    with pytest.raises(TrialError, match=rf"downwards: not {group.name}; downwards: not"):
        BestOf(scorers=[Downwards(), Downwards()]).score(group, ctx)


def test_what_it_measures_is_the_divergence_after_a_real_cut() -> None:
    """Whichever it chooses, no other one's cuts do less harm: measured again by hand."""
    bench = Bench()
    scorers: list[Scorer] = [L1(), RandomOrder(), L2(weights="fan-out"), Taylor(batches=2)]
    chosen = bench.score(BestOf(scorers=scorers))
    inputs, _ = bench.data.validation.fetch(torch.arange(32))
    dense = _predicted(bench, {}, inputs)
    differ = 0
    for group in bench.structure.groups:
        harms = {}
        for scorer in scorers:
            scores = bench.score(scorer)[group.name]
            harms[scores] = 0.0
            units = group.units - 1
            for cut in dict.fromkeys(max(1, round(share * units)) for share in (2 / 3, 1.0)):
                kept = bench.structure.select({group.name: scores}, {group.name: cut})
                divergence = _divergence(dense, _predicted(bench, kept, inputs))
                harms[scores] += float(torch.tensor(max(divergence, 1e-4)).log())
        least = min(harms, key=lambda scores: harms[scores])
        differ += len({round(h, 6) for h in harms.values()}) > 1
        assert torch.equal(chosen[group.name], least)
    assert differ, "the scorers rank alike: nothing was chosen"


def _predicted(bench: Bench, kept: Mapping[str, torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """With the statistics of the batch in batch norms."""
    small = bench.structure.cut(bench.network, kept)
    for module in small.modules():
        module.training = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    with torch.no_grad():
        return bench.predictor(small)(*inputs).log_softmax(1)


def _divergence(dense: torch.Tensor, other: torch.Tensor) -> float:
    return float((dense.exp() * (dense - other)).sum(1).mean())


def test_a_spec_names_what_to_choose_from(tmp_path) -> None:
    file = tmp_path / "spec.yaml"
    text = "name: a\nmodel: {use: digits-cnn}\ndata: {use: digits}\nevaluators: [{use: accuracy}]\n"
    text += (
        "objectives: {accuracy: maximize}\nscorer: {use: best-of, scorers: [{use: l1}, {use: l2, weights: fan-out}]}\n"
    )
    file.write_text(text)
    (scorer,) = bind(load_spec(file), PluginHost()).scorers
    assert scorer == BestOf(scorers=[L1(), L2(weights="fan-out")])
    named = [{"use": "l1", "weights": "fan-in"}, {"use": "l2", "weights": "fan-out"}]
    assert scorer.reference() == {"use": "best-of", "scorers": named}
    file.write_text(text.replace("use: l2", "use: l3"))
    with pytest.raises(SpecError, match=r"spec\.yaml:6:46: .*no scorer is called 'l3'; known: "):
        load_spec(file)
