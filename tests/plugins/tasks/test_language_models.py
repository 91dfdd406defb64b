"""Language models against loops and the losses of transformers, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from scipy.special import rel_entr, softmax
from sklearn.metrics import log_loss
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Data, Inputs, Split, Task
from autoprune.toolkit.packages import optional
from autoprune_tasks.language_models import CausalLM, MaskedLM, Seq2SeqLM

from .cases import classes, noise

TASKS: list[Task] = [CausalLM(), CausalLM(shifted=True), MaskedLM(), Seq2SeqLM()]
N, T, V = 5, 7, 11
numbers, whole = torch.zeros, partial(torch.zeros, dtype=torch.int64)
every = pytest.mark.parametrize(
    "task", TASKS, ids=lambda task: f"{task.name}{'-shifted' * getattr(task, 'shifted', 0)}"
)


def of(tokens: Tensor, targets: Tensor) -> Data:
    """Data with those tokens and targets."""
    split = Split.of_tensors({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, targets)
    return Data(split, split, split)


def pairs(task: Task, targets: Tensor) -> list[list[tuple[int, int]]]:
    """Of each sample, the positions that count and what they are to say."""
    ahead = int(isinstance(task, CausalLM) and not task.shifted)
    found = [[(t, int(row[t + ahead])) for t in range(T - ahead)] for row in targets]
    return [[(t, y) for t, y in row if y != -100] for row in found]


@every
def test_the_loss_is_the_mean_cross_entropy_of_the_tokens_that_count(task: Task) -> None:
    scores, targets = 3 * noise(N, T, V), classes(N, T, count=V)
    rows = pairs(task, targets)
    chances = softmax(scores.double().numpy(), 2)
    expected = [
        log_loss([y for _, y in row], [chances[n, t] for t, _ in row], labels=range(V)) if row else 0
        for n, row in enumerate(rows)
    ]
    assert task.loss(scores, targets).tolist() == pytest.approx(expected, rel=1e-5)
    counted = task.counted(scores, targets)
    assert counted is not None
    assert counted.tolist() == [len(row) for row in rows]
    right = [sum(scores[n, t].argmax() == y for t, y in row) / len(row) if row else 0 for n, row in enumerate(rows)]
    correct = task.correct(scores, targets)
    assert correct is not None
    assert correct.tolist() == pytest.approx([float(share) for share in right])


@every
def test_divergence_and_agreement_are_of_the_tokens_that_count_or_of_all(task: Task) -> None:
    scores, dense, targets = 3 * noise(N, T, V), 3 * noise(N, T, V, seed=9), classes(N, T, count=V)
    p, q = (softmax(each.double().numpy(), 2) for each in (dense, scores))
    each, same = rel_entr(p, q).sum(2), (p.argmax(2) == q.argmax(2)).astype(float)
    of_all = [list(range(T))] * N
    of_some = [[t for t, _ in row] for row in pairs(task, targets)]
    for asked, places in ((None, of_all), (targets, of_some)):
        divergence, agreement = task.divergence(scores, dense, asked), task.agreement(scores, dense, asked)
        assert divergence.dtype == torch.float64
        for found, wanted in ((divergence, each), (agreement, same)):
            expected = [wanted[n, row].mean() if row else 0 for n, row in enumerate(places)]
            assert found.tolist() == pytest.approx(expected, rel=1e-6)


@every
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_more(task: Task, kind: torch.dtype) -> None:
    scores, dense, targets = noise(N, T, V).to(kind), noise(N, T, V, seed=9).to(kind), classes(N, T, count=V)
    assert torch.equal(task.loss(scores, targets), task.loss(scores.float(), targets))
    assert torch.equal(task.divergence(scores, dense, targets), task.divergence(scores.float(), dense.float(), targets))
    assert torch.autograd.grad(task.loss(scores.requires_grad_(), targets).sum(), scores)[0].dtype == kind


@every
def test_a_single_token_has_none_that_follows(task: Task) -> None:
    scores, targets = noise(2, 1, V), classes(2, 1, count=V, ignored=None)
    counted = 0 if isinstance(task, CausalLM) and not task.shifted else 1
    assert task.counted(scores, targets).tolist() == [counted] * 2  # type: ignore[union-attr]
    assert bool(task.loss(scores, targets).any()) == bool(counted)


@pytest.fixture(scope="module")
def tiny() -> dict[str, Any]:
    """Models of Hugging Face, as small as they get."""
    transformers: Any = optional("transformers")
    common = {"vocab_size": V, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    torch.manual_seed(0)
    return {
        "causal-lm": transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=T, **common)
        ).eval(),
        "masked-lm": transformers.BertForMaskedLM(
            transformers.BertConfig(
                hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, **common
            )
        ).eval(),
        "seq2seq-lm": transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0, **common
            )
        ).eval(),
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", [CausalLM(), MaskedLM(), Seq2SeqLM()], ids=lambda task: task.name)
def test_it_is_the_loss_of_hugging_face(task: Task, tiny: dict[str, Any]) -> None:
    """Of what the model returns, caches and hidden states beside it, the scores are found."""
    model: nn.Module = tiny[task.name]
    tokens, labels = classes(N, T, count=V, ignored=None), classes(N, T, count=V)
    if task.name == "masked-lm":
        tokens = tokens.where(labels == -100, 2)
    given: dict[str, Tensor] = {"input_ids": tokens}
    with torch.no_grad():
        expected = model(**given, labels=labels).loss
        if task.name == "seq2seq-lm":  # Hugging Face makes it of the labels, we take it from the data
            given["decoder_input_ids"] = torch.cat([whole(N, 1), labels[:, :-1].clamp_min(0)], 1)
        returned = model(**given, output_hidden_states=True)
        outputs = task.pick(returned)
        assert len(returned) > 1
        assert outputs.shape == (N, T, V)
        assert task.refuses(outputs, labels, of(tokens, labels)) is None
        each, counted = task.loss(outputs, labels), task.counted(outputs, labels)
    assert counted is not None
    assert float((each * counted).sum() / counted.sum()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
def test_one_sample_and_a_gradient_through_the_model(tiny: dict[str, Any]) -> None:
    model, tokens = tiny["causal-lm"], classes(1, T, count=V, ignored=None)
    weights = list(model.parameters())
    ours = torch.autograd.grad(CausalLM().loss(model(tokens).logits, tokens).mean(), weights)
    theirs = torch.autograd.grad(model(tokens, labels=tokens).loss, weights)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def shifted(tokens: Tensor) -> Tensor:
    return torch.cat([tokens[:, 1:], whole(len(tokens), 1) - 100], 1)


def prompts(tokens: Tensor) -> Tensor:
    return tokens.index_fill(1, torch.arange(3), -100)


SAME: Callable[[Tensor], Tensor] = torch.clone


@pytest.mark.parametrize(
    ("task", "targets", "told"),
    [
        (CausalLM(), SAME, None),
        (CausalLM(), prompts, None),
        (CausalLM(), shifted, "{use: causal-lm, shifted: true}"),
        (CausalLM(shifted=True), shifted, None),
        (CausalLM(shifted=True), SAME, "write task: {use: causal-lm}, which shifts them"),
        (MaskedLM(), SAME, "let the data mask some of the input"),
        (MaskedLM(), prompts, "let the data mask some of the input"),
        (Seq2SeqLM(), SAME, None),
    ],
)
def test_targets_that_the_model_sees_are_refused(task: Task, targets: Any, told: str | None) -> None:
    """Shifted twice, or not at all, a model would look hopeless or perfect without a word."""
    tokens = classes(4, T, count=V, ignored=None)
    wanted = targets(tokens)
    reason = task.refuses(noise(4, T, V), wanted, of(tokens, wanted))
    assert reason is None if told is None else told in str(reason)


def test_masked_tokens_are_not_refused() -> None:
    tokens = classes(4, T, count=V, ignored=None)
    masked = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    targets = tokens.where(masked, -100)
    data = of(tokens.masked_fill(masked, 1), targets)
    assert MaskedLM().refuses(noise(4, T, V), targets, data) is None
    # By position, or of another width, tokens are not looked at.
    other = Split.of_tensors(Inputs((noise(4, 3),)), targets)
    assert MaskedLM().refuses(noise(4, T, V), targets, Data(other, other, other)) is None


@every
@pytest.mark.parametrize(
    ("outputs", "targets", "told"),
    [
        (numbers(4, 3), whole(4), ["outputs (4, 3) float32", "task: {use: classification}"]),
        (numbers(4, 7, 50), whole(4), ["targets are (4,) int64", "task: {use: classification}"]),
        (numbers(4, 50, 7), whole(4, 7), ["outputs (4, 50, 7) float32", "task: {use: segmentation}"]),
        (numbers(4, 3, 8, 8), whole(4, 8, 8), ["task: {use: segmentation}"]),
        (numbers(4, 7, 1), whole(4, 7), ["task: {use: regression}"]),
        (numbers(4, 7, 5), numbers(4, 7), ["(4, 7) float32", "task: {use: regression}"]),
        (numbers(4, 7, 5), torch.zeros(4, 7, dtype=torch.int32), ["(4, 7) int32", "tokens as int64"]),
        (numbers(4, 7, 5), whole(4, 9), ["one target for each token, (4, 7)"]),
        (whole(4, 7), whole(4, 7), ["outputs are (4, 7) int64", "return scores"]),
        (numbers(4, 7, 5), {"labels": whole(4, 7)}, ["heads: {labels: {use: …}}"]),
        (numbers(4, 7, 5), {}, ["the data has no targets", "task: {use: embedding}"]),
        (numbers(4, 7, 5), whole(4, 7) - 100, ["nothing of the first 4 samples counts", "every target is -100"]),
        (numbers(4, 7, 5), whole(4, 7) + 5, ["class 5", "the model has 5 outputs", "-100, the option ignore_index"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(task: Task, outputs: Tensor, targets: Any, told: list[str]) -> None:
    reason = task.refuses(outputs, targets, of(whole(4, 2), whole(4)))
    assert reason is not None
    assert "\n" not in reason
    for part in told:
        assert part in reason


@every
def test_batches_that_do_not_fit_fail_the_trial_though_the_first_did(task: Task) -> None:
    for ask in (task.loss, task.correct, task.counted):
        with pytest.raises(TrialError, match=rf"^{task.name}: targets are \(4, 6\) int64 and outputs \(4, 7, 5\)"):
            ask(numbers(4, 7, 5), whole(4, 6))
    with pytest.raises(TrialError, match=rf"^{task.name}: a target is class 5, but the model has 5 outputs"):
        task.loss(numbers(4, 7, 5), whole(4, 7) + 5)
