"""The group that fares worst, against shares counted by hand and SciPy's intervals."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Data, Measured, Split
from autoprune.testing import Bench
from autoprune_evaluators import WorstClass, WorstGroup
from autoprune_tasks.classification import Classification
from autoprune_tasks.multi_head import MultiHead
from autoprune_tasks.regression import Regression
from autoprune_tasks.segmentation import Segmentation

from .answers import measured

KINDS = MultiHead(heads={"kind": Classification(), "size": Regression()})


def grouped(samples: int = 500) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of three classes, the true ones, and four groups, the second of which fares worst."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (samples,), generator=generator)
    groups = torch.randint(4, (samples,), generator=generator)
    right = torch.rand(samples, generator=generator) < torch.tensor([0.9, 0.6, 0.8, 0.9])[groups]
    scores = torch.eye(3)[torch.where(right, targets, (targets + 1) % 3)]
    return scores, targets, groups


def test_it_is_the_smallest_of_the_groups_accuracies() -> None:
    scores, targets, groups = grouped()
    right = scores.argmax(1) == targets
    outputs = {"kind": scores, "size": torch.zeros(500, 1)}
    told = {"kind": targets, "size": torch.zeros(500, 1), "site": groups * 10 - 5}  # any numbers will do
    found = measured(WorstGroup(by="site", head="kind", batch_size=37), outputs, told, KINDS)
    each = [right[groups == group] for group in range(4)]
    assert found.value == pytest.approx(float(each[1].double().mean()))
    ends = [stats.binomtest(int(one.sum()), len(one)).proportion_ci(1 - 0.05 / 4, method="wilson") for one in each]
    assert found.low == pytest.approx(min(end.low for end in ends))
    assert found.high == pytest.approx(min(end.high for end in ends))
    # Without a head, all of those that know right and wrong count, and here that is the one.
    assert measured(WorstGroup(by="site"), outputs, told, KINDS).value == pytest.approx(found.value)
    part = measured(WorstGroup(by="site", samples=60, batch_size=7), outputs, told, KINDS)
    assert part.samples == 60


def test_groups_by_the_true_class_are_the_worst_class() -> None:
    scores, targets, _ = grouped()
    both = {"kind": targets, "size": torch.zeros(500, 1)}, {"kind": scores, "size": torch.zeros(500, 1)}
    found = measured(WorstGroup(by="kind", head="kind"), both[1], both[0], KINDS)
    expected = measured(WorstClass(), scores, targets, Classification())
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_a_column_of_a_table_tells_groups() -> None:
    scores, targets, groups = grouped()
    table = torch.cat([scores, -1.0 - groups[:, None]], dim=1)  # the net's answer, and what no class is
    right = scores.argmax(1) == targets
    found = measured(WorstGroup(by=3), table, targets, Classification())
    assert found.value == pytest.approx(float(right[groups == 1].double().mean()))


def test_what_does_not_count_counts_in_no_group() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(30, 3, 4, 4, generator=generator), torch.randint(3, (30, 4, 4), generator=generator)
    targets[:, 2:] = 255
    targets[:10] = 255  # all of a group
    site = torch.arange(30) // 10
    task = MultiHead(heads={"map": Segmentation(ignore_index=255)})
    found = measured(WorstGroup(by="site", head="map"), {"map": scores}, {"map": targets, "site": site}, task)
    right = (scores.argmax(1) == targets)[:, :2]
    assert found.value == pytest.approx(min(float(right[site == n].double().mean()) for n in (1, 2)))


def test_what_tells_no_groups_is_refused() -> None:
    scores, targets, groups = grouped(60)
    told = {"kind": targets, "site": groups, "noise": torch.randn(60), "wide": torch.zeros(60, 2)}
    task = MultiHead(heads={"kind": Classification()})

    def split(targets: object) -> Data:
        whole = Split.of_tensors(scores, targets)  # type: ignore[arg-type]
        return Data(whole, whole, whole)

    assert WorstGroup(by="site").refuses(split(told)) is None
    assert WorstGroup(by="sites").refuses(split(told)) == (
        "worst-group: there are no targets 'sites'; did you mean 'site'?"
    )
    assert "targets are (1,) int64, not by name: let the data give 'site' beside them" in str(
        WorstGroup(by="site").refuses(split(targets))
    )
    assert WorstGroup(by=3).refuses(split(targets)) == (
        "worst-group: there is no column 3; the first input is (1, 3) float32"
    )
    assert "a sample is in one group" in str(WorstGroup(by="wide").refuses(split(told)))
    with pytest.raises(DataError, match="there is no column 3"):
        measured(WorstGroup(by=3), scores, targets, Classification())
    with pytest.raises(TrialError, match="noise has 60 values; groups are 50 at most"):
        measured(WorstGroup(by="noise"), {"kind": scores}, told, task)
    with pytest.raises(TrialError, match="noise is no number in some of the samples"):
        measured(WorstGroup(by="noise"), {"kind": scores}, told | {"noise": groups * torch.nan}, task)
    with pytest.raises(TrialError, match="regression has nothing that is right or wrong"):
        measured(WorstGroup(by=2), scores, scores, Regression())


def test_bad_inputs_give_a_line_and_one_class_a_number() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.cat([torch.randn(40, 3, generator=generator), torch.arange(40)[:, None] % 2], dim=1)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def found(rows: Tensor, targets: Tensor) -> Measured:
        split = Split.of_tensors(rows, targets)
        return Bench(network, Data(split, split, split, classes=3)).measure(WorstGroup(by=3))["worst_group_accuracy"]

    targets = torch.arange(40) % 3
    assert found(table, torch.zeros_like(targets)).samples == 40
    holes = table.clone()
    holes[20:, 0] = torch.nan
    with pytest.raises(TrialError, match="outputs are NaN"):
        found(holes, targets)
