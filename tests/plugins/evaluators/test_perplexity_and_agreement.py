"""Perplexity against transformers' own loss, and agreement with the dense model against plain torch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from autoprune import TrialError
from autoprune.toolkit.packages import optional
from autoprune.toolkit.samples import SampleEvaluator
from autoprune_evaluators import Accuracy, Agreement, Loss, Perplexity, forward
from autoprune_tasks.classification import Classification
from autoprune_tasks.embedding import Embedding
from autoprune_tasks.language_models import CausalLM, MaskedLM
from autoprune_tasks.multilabel import Multilabel
from autoprune_tasks.regression import Regression
from autoprune_tasks.segmentation import Segmentation
from tests.plugins.evaluators.answers import context, measured


def tokens() -> tuple[Tensor, Tensor]:
    """Scores of 9 words, and sentences of 3 to 12 tokens, padded."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(30, 12, 9, generator=generator)
    targets = torch.randint(9, (30, 12), generator=generator)
    lengths = torch.randint(3, 13, (30, 1), generator=generator)
    return scores, targets.where(torch.arange(12) < lengths, -100)


def test_perplexity_is_that_of_all_tokens_that_count() -> None:
    """A mean of the sentences' means would be another."""
    scores, targets = tokens()
    expected = cross_entropy(scores[:, :-1].reshape(-1, 9), targets[:, 1:].reshape(-1)).exp()
    found = measured(Perplexity(batch_size=7), scores, targets, CausalLM())
    assert found.value == pytest.approx(float(expected), rel=1e-5)
    assert found.samples == 30
    sentences = [float(cross_entropy(s[:-1], t[1:]).exp()) for s, t in zip(scores, targets, strict=True)]
    assert found.value != pytest.approx(sum(sentences) / 30, rel=1e-2)


def test_the_interval_of_perplexity_is_that_of_the_loss() -> None:
    scores, targets = tokens()
    loss, perplexity = (measured(each, scores, targets, MaskedLM()) for each in (Loss(), Perplexity()))
    logs = [math.log(each) for each in (perplexity.low, perplexity.value, perplexity.high)]
    assert logs == pytest.approx([loss.low, loss.value, loss.high], rel=1e-12)


def test_perplexity_of_a_classification_is_that_of_its_classes() -> None:
    found = measured(Perplexity(), torch.zeros(8, 5), torch.arange(8) % 5, Classification())
    assert found.value == pytest.approx(5, rel=1e-6)


def test_a_perplexity_that_is_no_number_any_more() -> None:
    scores = torch.zeros(2, 2)
    scores[:, 0] = torch.tensor([1.0, 700.0])
    found = measured(Perplexity(), scores, torch.ones(2, dtype=torch.int64), Classification())
    assert found.value == pytest.approx(math.exp((math.log(1 + math.e) + 700) / 2), rel=1e-4)
    assert found.low is found.high is None
    found = measured(Perplexity(), 1e4 * scores, torch.ones(2, dtype=torch.int64), Classification())
    assert found.value == math.inf  # which the host refuses


@pytest.mark.parametrize(("task", "targets"), [(Regression(), torch.randn(6, 3)), (Multilabel(), torch.ones(6, 3))])
def test_perplexity_of_what_chooses_nothing_is_refused(task, targets: Tensor) -> None:
    with pytest.raises(TrialError, match=r"^perplexity is of tasks that choose one class, or token; task .* use loss$"):
        measured(Perplexity(), torch.randn(6, 3), targets, task)


@pytest.mark.parametrize("evaluator", [Accuracy(), Loss(), Perplexity(), Agreement()], ids=lambda each: each.name)
def test_where_nothing_counts_there_is_nothing_to_tell(evaluator: SampleEvaluator) -> None:
    """Not even after the batches that have nothing, where others have something: no loss is no perfect loss."""
    scores, targets = torch.randn(4, 3, 2), torch.full((4, 2), -100)
    with pytest.raises(TrialError, match=rf"^{evaluator.name}: nothing counts in any of the samples$"):
        measured(evaluator, scores, targets, Segmentation())
    last = torch.randperm(4, generator=torch.Generator().manual_seed(0))[-1]
    targets[last] = 1
    told: list[object] = []
    one_by_one = evaluator.model_copy(update={"batch_size": 1})
    found = measured(one_by_one, scores, targets, Segmentation(), report=told.append)
    assert told == [{evaluator.name: found.model_copy(update={"difference": None})}]


def net(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(4, 3).eval()


def agreement(task, targets: Tensor, **options) -> tuple[float, Tensor, Tensor]:
    """As measured, and the outputs of both models."""
    inputs = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    ctx = context(inputs, targets, task, dense=net(0))
    with torch.no_grad():
        ours, theirs = net(1)(inputs), net(0)(inputs)
    found = Agreement(**options).evaluate(net(1), ctx)["agreement"]
    assert found.samples == 50
    return found, ours, theirs


def test_agreement_is_the_share_of_same_classes() -> None:
    found, ours, theirs = agreement(Classification(), torch.zeros(50, dtype=torch.int64), batch_size=7)
    same = int((ours.argmax(1) == theirs.argmax(1)).sum())
    assert 5 < same < 45
    assert found.value == pytest.approx(same / 50)
    reference = stats.binomtest(same, 50).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))


def test_agreement_of_vectors_needs_no_targets() -> None:
    found, ours, theirs = agreement(Embedding(), torch.zeros(50, 0), batch_size=50)
    assert found.value == pytest.approx(float(cosine_similarity(ours, theirs).clamp_min(0).mean()), rel=1e-5)


def test_agreement_counts_the_positions_that_count() -> None:
    inputs = torch.randn(20, 4, 6, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(20, 6, dtype=torch.int64)
    targets[torch.arange(6) > torch.arange(20)[:, None] % 5] = -100

    class Flipped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.roll(1, dims=2)

    found = measured(Agreement(batch_size=7), inputs, targets, Segmentation(), dense=Flipped())
    same = (inputs.argmax(1) == inputs.roll(1, dims=2).argmax(1))[targets != -100]
    assert found.value == pytest.approx(float(same.double().mean()))


def test_the_dense_model_agrees_with_itself() -> None:
    scores, targets = tokens()
    assert measured(Agreement(), scores, targets, CausalLM()).value == 1


def counted(network: nn.Module) -> list[int]:
    seen: list[int] = []
    network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


def test_dense_outputs_are_computed_once_per_study_if_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, targets, dense = torch.randn(50, 4), torch.zeros(50, dtype=torch.int64), net(0)
    ctx, seen = context(inputs, targets, Classification(), dense=dense), counted(dense)
    evaluator = Agreement(batch_size=20)
    expected = [evaluator.evaluate(net(seed), ctx) for seed in (1, 2, 1)]
    assert seen == [20, 20, 10]
    assert expected[0] == expected[2] != expected[1]
    Agreement(batch_size=20, samples=30).evaluate(net(1), ctx)
    assert sum(seen) == 80

    seen.clear()
    monkeypatch.setattr(forward, "_KEPT_BYTES", 400)
    small = context(inputs, targets, Classification(), dense=dense)
    assert [evaluator.evaluate(net(seed), small) for seed in (1, 2, 1)] == expected
    assert seen == [20, 20] + 3 * [20, 20, 10]  # once to see that they do not fit


@pytest.mark.slow
def test_perplexity_is_transformers() -> None:
    optional("torchvision")  # transformers imports it
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            n_layer=1, n_head=2, n_embd=8, vocab_size=20, n_positions=16, bos_token_id=0, eos_token_id=0
        )
        model = GPT2LMHeadModel(config).eval()
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.5)
    ids = torch.randint(20, (12, 10), generator=torch.Generator().manual_seed(1))
    labels = ids.where(torch.arange(10) < torch.arange(3, 15)[:, None], -100)

    class Logits(nn.Module):
        def forward(self, input_ids: Tensor) -> Tensor:
            return CausalLM().pick(model(input_ids=input_ids))

    ctx = replace(context({"input_ids": ids}, labels, CausalLM()), of_dense=True)
    found = Perplexity(batch_size=5).evaluate(Logits(), ctx)["perplexity"]
    with torch.no_grad():
        expected = model(input_ids=ids, labels=labels).loss.exp()
    assert found.value == pytest.approx(float(expected), rel=1e-5)
    assert found.value > 25
