"""Of several heads, attackers look at one: what they train has the model's heads, and learns that one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Data, Evaluator, Measured, Split
from autoprune.testing import Bench
from autoprune_evaluators import AttributeInference, MembershipInference, ModelExtraction
from autoprune_tasks.classification import Classification
from autoprune_tasks.multi_head import MultiHead
from autoprune_tasks.regression import Regression


class Heads(nn.Module):
    """Inputs (N, 4) to three scores and two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 16)
        self.kind, self.size = nn.Linear(16, 3), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.body(x))
        return {"kind": self.kind(x), "size": self.size(x)}


@pytest.fixture(scope="module")
def bench() -> Bench:
    generator = torch.Generator().manual_seed(0)

    def split(length: int) -> Split:
        rows = torch.randn(length, 4, generator=generator)
        return Split.of_tensors(rows, {"kind": rows[:, :3].argmax(1), "size": rows[:, 2:]})

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Heads()
    task = MultiHead(heads={"kind": Classification(), "size": Regression()})
    return Bench(network, Data(split(120), split(80), split(60)), task=task)


@pytest.mark.parametrize("head", ["kind", "size"])
@pytest.mark.parametrize(
    "evaluator",
    [
        MembershipInference(attack="lira", shadows=4, epochs=2, samples=50),
        ModelExtraction(epochs=60, batch_size=16, lr=0.02),
        AttributeInference(column=1),
    ],
    ids=lambda each: each.name,
)
def test_one_head_is_attacked(bench: Bench, evaluator: Evaluator, head: str) -> None:
    found: dict[str, Measured] = bench.measure(evaluator.model_copy(update={"head": head}))
    assert found.keys() == {metric.name for metric in evaluator.declares(bench.data)}
    if "extraction_fidelity" in found:
        assert found["extraction_fidelity"].value > 0.8  # of that head, the surrogate has learnt what the model says


def test_of_a_front_one_head_is_attacked(bench: Bench) -> None:
    ctx = bench.contexts.evaluating(
        bench.predictor, seed=0, cache={}, split="validation", costs=bench.structure.costs({})
    )
    evaluator = MembershipInference(attack="lira", head="size", shadows=4, epochs=2, samples=50)
    found = evaluator.of_front((bench.predictor(bench.cut(bench.uniform(ratio))) for ratio in (0.3, 0.6)), ctx)
    assert found["front_leakage_auc"].samples == 100
