"""Membership inference, against computations from the papers and the Adversarial Robustness Toolbox."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from autoprune import TrialError
from autoprune.plugin import Data, EvaluationContext, Measured, Split
from autoprune_evaluators._membership import Scores, certainty
from autoprune_evaluators.membership import MembershipInference
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression

from .answers import COSTS, Answer
from .conftest import SIDE


def _measured(evaluator: MembershipInference, net: nn.Module, data: Data, **changes: Any) -> dict[str, Measured]:
    fields: dict[str, Any] = {
        "seed": 0,
        "device": torch.device("cpu"),
        "data": data,
        "task": Classification(),
        "split": "validation",
        "dense": net,
        "costs": COSTS,
        "dense_costs": COSTS,
        "of_dense": True,
    }
    found = evaluator.evaluate(net, EvaluationContext(**(fields | changes)))
    return {name: value for name, value in found.items() if isinstance(value, Measured)}


def _losses(net: nn.Module, split: Split) -> np.ndarray:
    inputs, targets = split.fetch(torch.arange(SIDE))
    with torch.no_grad():
        return F.cross_entropy(net(inputs.first), targets, reduction="none").double().numpy()


def test_area_and_advantage_are_those_of_the_losses(leaking: tuple[nn.Module, Data]) -> None:
    net, data = leaking
    found = _measured(MembershipInference(), net, data)
    members, others = _losses(net, data.train), _losses(net, data.validation)
    auc = roc_auc_score([1] * SIDE + [0] * SIDE, -np.concatenate([members, others]))
    assert found["membership_auc"].value == pytest.approx(auc)
    assert found["membership_auc"].value > 0.75
    # Yeom et al.: members are those whose loss is below a threshold; the best one in hindsight is an upper end.
    best = max((members <= t).mean() - (others <= t).mean() for t in np.concatenate([members, others]))
    advantage = found["membership_advantage"]
    assert best - 0.1 < advantage.value <= best + 1e-9
    assert advantage.low < advantage.value < advantage.high  # type: ignore[operator]
    assert advantage.samples == 2 * SIDE


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_toolboxs_attack_finds_as_many(leaking: tuple[nn.Module, Data]) -> None:
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
    from art.estimators.classification import PyTorchClassifier

    net, data = leaking
    art = PyTorchClassifier(net, nn.CrossEntropyLoss(), (64,), 10)
    attack = MembershipInferenceBlackBox(art, input_type="loss", attack_model_type="lr")
    (x, y), (u, v) = (split.fetch(torch.arange(SIDE)) for split in (data.train, data.validation))
    (members, classes), (others, wanted) = ((i.first.numpy(), t.numpy()) for i, t in ((x, y), (u, v)))
    half = slice(0, None, 2), slice(1, None, 2)
    advantages = []
    for fit, judge in (half, half[::-1]):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            attack.fit(members[fit], classes[fit], others[fit], wanted[fit])
        caught = [attack.infer(a[judge], b[judge]).mean() for a, b in ((members, classes), (others, wanted))]
        advantages.append(caught[0] - caught[1])
    found = _measured(MembershipInference(), net, data)["membership_advantage"]
    assert found.low - 0.05 < np.mean(advantages) < found.high + 0.05  # type: ignore[operator]


def test_nothing_is_found_where_nothing_leaks() -> None:
    """On the mean over many draws: a threshold that is judged where it was chosen would find something."""
    values, hindsight = [], []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        members, others = (torch.randn(60, generator=generator) for _ in range(2))
        found = Scores(members, others).measured(None)
        values.append(found["membership_advantage"].value)
        thresholds = torch.cat([members, others])
        hindsight.append(max(float((members >= t).float().mean() - (others >= t).float().mean()) for t in thresholds))
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert np.mean(hindsight) > 0.1


def test_a_model_is_compared_with_the_dense_one(leaking: tuple[nn.Module, Data]) -> None:
    net, data = leaking
    with torch.random.fork_rng():
        torch.manual_seed(1)
        fresh = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).eval()
    evaluator = MembershipInference(fpr=0.05)
    dense = _measured(evaluator, net, data)
    found = _measured(evaluator, fresh, data, dense=net, of_dense=False)
    assert set(found) == {"membership_auc", "membership_advantage", "membership_tpr", "membership_tnr"}
    for name, measured in found.items():
        assert dense[name].difference is None
        difference = measured.difference
        assert difference is not None
        assert difference.value == pytest.approx(measured.value - dense[name].value)
        assert difference.value < 0
        assert difference.told_apart or name in ("membership_tpr", "membership_tnr")
    assert found["membership_auc"].low < 0.5 < found["membership_auc"].high  # type: ignore[operator]


def test_members_are_counted_where_few_others_are_taken_for_them(leaking: tuple[nn.Module, Data]) -> None:
    net, data = leaking
    found = _measured(MembershipInference(fpr=0.1), net, data)["membership_tpr"]
    members, others = _losses(net, data.train), _losses(net, data.validation)
    threshold = np.sort(others)[int(0.1 * SIDE)]
    assert (others < threshold).mean() <= 0.1
    assert found.value == pytest.approx((members < threshold).mean())
    assert found.low <= found.value <= found.high  # type: ignore[operator]


def test_others_are_counted_where_few_members_are_taken_for_them(leaking: tuple[nn.Module, Data]) -> None:
    """The loss's true negative rate at a low false negative rate, of Dodd et al."""
    net, data = leaking
    found = _measured(MembershipInference(fpr=0.1), net, data)["membership_tnr"]
    members, others = _losses(net, data.train), _losses(net, data.validation)
    threshold = np.sort(members)[::-1][int(0.1 * SIDE)]
    assert (members > threshold).mean() <= 0.1
    assert found.value == pytest.approx((others > threshold).mean())
    assert found.value > 0.3


def test_several_rates_have_names_of_their_own(leaking: tuple[nn.Module, Data]) -> None:
    net, data = leaking
    several = MembershipInference(fpr=(0.05, 0.1))
    found = _measured(several, net, data)
    names = [metric.name for metric in several.declares(data)]
    assert names[2:4] == ["membership_tpr_at_0_05", "membership_tpr_at_0_1"]
    assert list(found) == names
    for rate, name in ((0.05, "0_05"), (0.1, "0_1")):
        alone = _measured(MembershipInference(fpr=rate), net, data)
        assert alone["membership_tpr"] == found[f"membership_tpr_at_{name}"]
        assert alone["membership_tnr"] == found[f"membership_tnr_at_{name}"]
    assert [m.name for m in MembershipInference(fpr=0.1, attack="lira").declares(data)][2:] == ["membership_tpr"]
    with pytest.raises(ValidationError, match="a rate is there twice"):
        MembershipInference(fpr=(0.1, 0.1))


def test_modified_entropy_is_the_papers() -> None:
    torch.manual_seed(0)
    scores, targets = 2 * torch.randn(50, 4), torch.randint(4, (50,))
    p = torch.softmax(scores.double(), 1).numpy()
    expected = []
    for row, true in zip(p, targets.tolist(), strict=True):
        others = sum(row[i] * math.log(1 - row[i]) for i in range(4) if i != true)
        expected.append(-(1 - row[true]) * math.log(row[true]) - others)
    found = certainty("membership-inference", Classification(), scores, targets)
    assert (-found).tolist() == pytest.approx(expected)


def test_what_it_makes_no_sense_on_is_told(leaking: tuple[nn.Module, Data]) -> None:
    _, data = leaking
    few = MembershipInference(fpr=0.01).refuses(data)
    assert few is not None
    assert "1 % are fewer than 10: ask for a larger fpr, or samples: 1000" in few
    assert MembershipInference(fpr=0.1).refuses(data) is None
    numbers = torch.randn(40, 2)
    split = Split.of_tensors(numbers, numbers)
    with pytest.raises(TrialError, match=r"needs one class per sample .*: use attack: loss"):
        _measured(
            MembershipInference(attack="modified-entropy"), Answer(), Data(split, split, split), task=Regression()
        )
    broken = Split.of_tensors(numbers * math.nan, numbers)
    with pytest.raises(TrialError, match="gives what is no number"):
        _measured(MembershipInference(), Answer(), Data(broken, broken, broken), task=Regression())
