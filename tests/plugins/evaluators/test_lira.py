"""The likelihood ratio attack and the one that sees labels alone, against computations from the papers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logit
from scipy.stats import norm
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Data, Inputs, Split
from autoprune.study.once import Once
from autoprune.testing import Bench, toy_network
from autoprune.toolkit.samples import SampleEvaluator
from autoprune.toolkit.training import Training
from autoprune_evaluators import _lira
from autoprune_evaluators._label_only import robustness
from autoprune_evaluators._lira import Outside, Shadows, confidence, joined
from autoprune_evaluators.membership import MembershipInference
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression

from .answers import Answer, context
from .test_membership import _measured


def test_sureness_is_the_logit_of_the_true_class() -> None:
    torch.manual_seed(0)
    scores, targets = 3 * torch.randn(40, 5), torch.randint(5, (40,))
    shares = torch.softmax(scores.double(), 1).numpy()[np.arange(40), targets.numpy()]
    found = confidence("membership-inference", Classification(), scores, targets)
    assert found.tolist() == pytest.approx(logit(shares).tolist())
    sure = confidence(
        "membership-inference", Classification(), torch.tensor([[30.0, 0.0], [20.0, 0.0]]), targets[:2] * 0
    )
    assert sure.tolist() == pytest.approx([30, 20], rel=1e-3)  # where float32 knows no loss but 0


@pytest.mark.parametrize("count", [16, 128])
def test_scores_are_the_papers_ratio(count: int) -> None:
    """1 − Pr[Z > confidence], with one variance for all samples, and of many shadow models with each sample's own."""
    generator = torch.Generator().manual_seed(0)
    spread = 0.5 + torch.rand(30, generator=generator).double()
    of = torch.randn(count // 2, 30, generator=generator).double() * spread
    sides = [Outside(each.mean(0), each.var(0)) for each in (of[:, :20], of[:, 20:])]
    known = torch.randn(30, generator=generator).double()
    members, others = Shadows(sides[0], sides[1], count).scores(known[:20], known[20:])
    each = of.numpy().std(0, ddof=1) if count == 128 else np.sqrt((of.numpy().std(0, ddof=1) ** 2).mean())
    ratio = 1 - norm.sf(known.numpy(), of.numpy().mean(0), each)
    assert norm.cdf(torch.cat([members, others]).numpy()).tolist() == pytest.approx(ratio.tolist())


class Seen(nn.Module):
    """Sure of the samples that it was given, whose first number is their name."""

    def __init__(self, names: set[float]) -> None:
        super().__init__()
        self.names = names

    def forward(self, x: Tensor) -> Tensor:
        sure = torch.tensor([float(name) in self.names for name in x[:, 0]])
        return torch.stack([torch.where(sure, 9.0, -1.0) + x[:, 1], torch.zeros(len(x))], dim=1)


def test_only_models_that_did_not_see_a_sample_count(monkeypatch: pytest.MonkeyPatch) -> None:
    names = torch.arange(100.0)
    inputs = torch.stack([names, torch.linspace(0, 1, 100)], 1)
    parts = [Split.of_tensors(inputs[part], torch.zeros(len(inputs[part]), dtype=torch.int64)) for part in
             (slice(60), slice(60, None))]  # fmt: skip
    ctx = replace(context(inputs, names, Classification()), data=Data(parts[0], parts[1], parts[1], classes=2))
    sizes = []

    def learnt(ctx: Any, samples: Split, options: Training, **_: Any) -> nn.Module:
        found, _targets = samples.fetch(torch.arange(len(samples)))
        sizes.append(len(samples))
        assert (found.first[:, 0] < 60).sum() == 30  # as many of either split
        return Seen(set(found.first[:, 0].tolist()))

    monkeypatch.setattr(_lira, "trained", learnt)
    evaluator = MembershipInference(attack="lira", shadows=6, samples=25, batch_size=7)
    made = evaluator._shadows(ctx)
    assert sizes == [50] * 6
    assert made.count == 6
    for split, side in (("train", made.members), ("validation", made.others)):
        batches = SampleEvaluator.batches(evaluator, replace(ctx, split=split))
        measured = torch.cat([inputs.first for inputs, _ in batches])
        # The logit of two classes is their difference; a model that saw the sample would say 10 more.
        assert side.mean.tolist() == pytest.approx((measured[:, 1] - 1).tolist(), abs=1e-6)


def untrained(seed: int) -> nn.Module:
    """The net that leaks, before it has learnt."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


@pytest.mark.slow
def test_it_finds_more_than_the_loss_does(leaking: tuple[nn.Module, Data]) -> None:
    """On a net that knows its samples by heart; and nothing in one that was never trained."""
    net, data = leaking
    loss = _measured(MembershipInference(fpr=0.05), net, data)
    options = {"attack": "lira", "fpr": 0.05, "epochs": 100, "lr": 0.005}
    found = _measured(MembershipInference.model_validate(options), net, data, build=untrained)
    assert found["membership_tpr"].value > loss["membership_tpr"].value
    assert found["membership_auc"].value > loss["membership_auc"].value
    shorter = MembershipInference.model_validate(options | {"epochs": 10})
    nothing = _measured(shorter, untrained(5).eval(), data, dense=net, build=untrained)
    assert nothing["membership_auc"].low < 0.5 < nothing["membership_auc"].high  # type: ignore[operator]


def test_shadow_models_are_trained_once(
    leaking: tuple[nn.Module, Data], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    net, data = leaking
    made: list[int] = []
    real = _lira.trained
    monkeypatch.setattr(_lira, "trained", lambda *args, **options: made.append(1) or real(*args, **options))
    evaluator, cache = MembershipInference(attack="lira", shadows=4, epochs=0.5, samples=50), {}
    once = Once(tmp_path, 0, torch.device("cpu"))
    first = _measured(evaluator, net, data, cache=cache, build=untrained, once=once)
    again = _measured(evaluator, net, data, cache=cache, of_dense=False)
    elsewhere = _measured(evaluator, net, data, once=once)  # another worker, or a later session
    assert len(made) == 4
    assert elsewhere["membership_auc"].value == first["membership_auc"].value
    assert again["membership_auc"].value == first["membership_auc"].value
    assert again["membership_auc"].difference is not None
    assert again["membership_auc"].difference.value == 0


@pytest.mark.parametrize("attack", ["lira", "label-only"])
def test_the_dense_model_stays_as_it_is_and_a_seed_says_the_same(attack: str) -> None:
    few = {"shadows": 4, "epochs": 1, "queries": 4, "samples": 32}
    evaluator = MembershipInference.model_validate({"attack": attack, **few})
    first, again = (Bench().measure(evaluator, network=toy_network(), seed=3) for _ in range(2))  # it looks at that
    assert first == again


def test_a_sample_stands_where_its_split_says() -> None:
    one, two = (
        Split.of_tensors({"a": torch.arange(n) + start}, {"t": torch.arange(n)}) for n, start in ((3, 0), (4, 10))
    )
    inputs, targets = joined(one, two).fetch(torch.tensor([0, 2, 3, 6]))
    assert inputs.kwargs["a"].tolist() == [0, 2, 10, 13]
    assert targets["t"].tolist() == [0, 2, 0, 3]
    inputs, _ = joined(one, two).fetch(torch.tensor([5]))
    assert inputs.kwargs["a"].tolist() == [12]


def test_noise_measures_how_far_the_boundary_is() -> None:
    """Of a linear model the share of noisy copies that stay right is the normal distribution of its distance."""
    x = torch.linspace(-2, 2, 9)[:, None]
    targets = torch.ones(9, dtype=torch.int64)
    options = {"task": Classification(), "bounds": None, "generator": torch.Generator().manual_seed(0)}

    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([0 * x, x], 1)

    found = robustness(Linear(), Inputs((x,)), targets, deviations=torch.full((4000,), 0.8), **options)  # type: ignore[arg-type]
    wanted = np.where(x[:, 0] > 0, norm.cdf(x[:, 0] / 0.8), 0)
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=0.03)


def test_labels_alone_tell_members(leaking: tuple[nn.Module, Data]) -> None:
    net, data = leaking
    found = _measured(MembershipInference(attack="label-only"), net, data)
    assert found["membership_auc"].low > 0.6  # type: ignore[operator]
    # Of scores that are scaled, which change every loss, labels tell the same.
    scaled = nn.Sequential(net, nn.Linear(10, 10, bias=False))
    with torch.no_grad():
        scaled[1].weight.copy_(7 * torch.eye(10))
    assert _measured(MembershipInference(attack="label-only"), scaled, data) == found


def test_what_they_make_no_sense_on_is_told(leaking: tuple[nn.Module, Data]) -> None:
    net, data = leaking
    told = r"16 shadow models take about \S+ s, more than seconds: 0.0001; allow them more, or ask for fewer"
    with pytest.raises(TrialError, match=told):
        _measured(MembershipInference(attack="lira", seconds=1e-4, epochs=0.1), net, data, build=untrained)
    numbers = torch.randn(40, 2)
    split = Split.of_tensors(numbers, numbers)
    with pytest.raises(TrialError, match="regression has nothing that is right or wrong"):
        _measured(MembershipInference(attack="label-only"), Answer(), Data(split, split, split), task=Regression())
    tokens = Split.of_tensors(torch.zeros(40, 3, dtype=torch.int64), torch.zeros(40, dtype=torch.int64))
    fault = MembershipInference(attack="label-only").refuses(Data(tokens, tokens, tokens))
    assert fault == "membership-inference: label-only adds noise to the first input, which is (1, 3) int64"

    class Gain(Regression):
        name = "gain"

        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return -super().loss(outputs, targets)

    with pytest.raises(TrialError, match="a loss of task gain is below 0; lira needs 0 or more: use attack: loss"):
        confidence("membership-inference", Gain(), numbers, numbers + 1)
