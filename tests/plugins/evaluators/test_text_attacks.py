"""Attacks on tokens and on their embeddings: against closed forms, brute force and a model of real sentences."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Inputs, Measured, SourceContext, Task
from autoprune_evaluators import EmbeddingAttack, TokenAttack
from autoprune_evaluators import _tokens as tokens_module
from autoprune_evaluators._embeddings import embedding_table
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression
from tests.plugins.evaluators.answers import context

ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("AUTOPRUNE_DATA", ROOT / ".." / "shared"))
VOCABULARY, WIDTH, LENGTH = 40, 6, 7


class Pooled(nn.Module):
    """A linear classifier of the mean embedding of tokens that are not padding, 0."""

    def __init__(self, *, nonlinear: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.words, self.position = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0), nn.Embedding(LENGTH, WIDTH)
            self.linear = nn.Linear(WIDTH, 2)
        nn.init.zeros_(self.position.weight)
        self.nonlinear = nonlinear
        self.eval()

    def forward(self, tokens: Tensor) -> Tensor:
        found = self.words(tokens) + self.position(torch.arange(tokens.shape[1]))
        known = (tokens != 0).unsqueeze(2)
        mean = (found * known).sum(1) / known.sum(1).clamp_min(1)
        result: Tensor = self.linear(mean.tanh() if self.nonlinear else mean)
        return result


def sentences(model: nn.Module, count: int = 60) -> tuple[Tensor, Tensor]:
    """Padded tokens, and what the model says of them, a tenth of it wrong."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, VOCABULARY, (count, LENGTH), generator=generator)
    lengths = torch.randint(2, LENGTH + 1, (count, 1), generator=generator)
    tokens[torch.arange(LENGTH)[None] >= lengths] = 0
    with torch.no_grad():
        targets = model(tokens).argmax(1)
    targets[::10] = 1 - targets[::10]
    return tokens, targets


def measured(
    evaluator: EmbeddingAttack | TokenAttack, model: nn.Module, tokens: Any, targets: Any, task: Task | None = None,
    **changes: Any,
) -> Measured:  # fmt: skip
    fields = {"dense": model, **changes}
    found = evaluator.evaluate(model, context(tokens, targets, task or Classification(), **fields))["robust_accuracy"]
    assert isinstance(found, Measured)
    return found


@pytest.mark.parametrize("epsilon", [0.1, 0.2, 0.5])
def test_of_a_linear_model_the_embeddings_that_withstand_are_known(epsilon: float) -> None:
    """A margin falls by at most epsilon times the mean length of the embeddings times that of the weights."""
    model = Pooled()
    tokens, targets = sentences(model)
    with torch.no_grad():
        weight = model.linear.weight[1] - model.linear.weight[0]
        margins = (model(tokens)[:, 1] - model(tokens)[:, 0]) * (2 * targets - 1)
        lengths = model.words(tokens).norm(dim=2).sum(1) / (tokens != 0).sum(1)
        expected = margins > epsilon * lengths * weight.norm()
    found = measured(EmbeddingAttack(epsilon=epsilon, samples=None), model, tokens, targets)
    assert 0 < found.value < float((margins > 0).float().mean())
    assert found.value * len(tokens) == pytest.approx(int(expected.sum()))
    assert found.samples == len(tokens)


def test_no_embedding_leaves_its_ball_and_others_stay() -> None:
    class Watched(Pooled):
        def forward(self, tokens: Tensor) -> Tensor:
            with torch.no_grad():
                plain = self.words.weight[tokens]
                moved.append(((self.words(tokens) - plain).norm(dim=2), plain.norm(dim=2)))
                still.append(self.words(tokens.flip(1))[tokens.flip(1) != tokens])
                expected.append(self.words.weight[tokens.flip(1)][tokens.flip(1) != tokens])
            return super().forward(tokens)

    moved: list[tuple[Tensor, Tensor]] = []
    still: list[Tensor] = []
    expected: list[Tensor] = []
    model = Watched(nonlinear=True)
    tokens, targets = sentences(model)
    moved.clear()
    measured(EmbeddingAttack(epsilon=0.3), model, tokens, targets, of_dense=True)
    assert all((away <= 0.3 * length * (1 + 1e-4) + 1e-6).all() for away, length in moved)
    assert max(float((away / length.clamp_min(1e-9)).max()) for away, length in moved) > 0.29
    assert all(torch.equal(*each) for each in zip(still, expected, strict=True))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def by_brute_force(model: nn.Module, table: Tensor, words: list[int], target: int, options: TokenAttack) -> bool:
    """Whether one sentence withstands, as the docstring says, token by token."""

    def ask(sentence: list[int]) -> tuple[float, bool]:
        with torch.no_grad():
            logits = model(torch.tensor([sentence]))
        return float(cross_entropy(logits, torch.tensor([target]))), int(logits.argmax()) == target

    loss, right = ask(words)
    places = [place for place, word in enumerate(words) if word not in options.keep]
    if not right or not places:
        return right
    gone = {place: ask([*words[:place], options.keep[0], *words[place + 1 :]])[0] for place in places}
    places.sort(key=lambda place: -gone[place])
    search = NearestNeighbors(n_neighbors=len(table), metric="cosine").fit(table)
    now = list(words)
    for place in places[: max(1, int(options.share * len(places)))]:
        near = search.kneighbors(table[[words[place]]], return_distance=False)[0].tolist()
        near = [word for word in near if word not in (*options.keep, words[place])][: options.candidates]
        tried = [[*now[:place], word, *now[place + 1 :]] for word in near]
        asked = [ask(sentence) for sentence in tried]
        if not all(right for _, right in asked):
            return False
        best = max(range(len(asked)), key=lambda each: asked[each][0])
        if asked[best][0] > loss:
            loss, now = asked[best][0], tried[best]
    return True


@pytest.mark.parametrize(("share", "candidates"), [(0.2, 3), (0.5, 4), (1.0, 2)])
def test_substitutions_are_those_of_brute_force(share: float, candidates: int) -> None:
    model, other = Pooled(nonlinear=True), Pooled()
    tokens, targets = sentences(model, 30)
    tokens[3] = 0  # nothing to replace
    evaluator = TokenAttack(share=share, candidates=candidates, samples=None, batch_size=16)
    table = other.words.weight.detach()
    expected = [
        by_brute_force(model, table, words, target, evaluator)
        for words, target in zip(tokens.tolist(), targets.tolist(), strict=True)
    ]
    found = measured(evaluator, model, tokens, targets, dense=other)
    with torch.no_grad():
        clean = float((model(tokens).argmax(1) == targets).float().mean())
    assert found.value * len(tokens) == pytest.approx(sum(expected))
    assert 0 < found.value < clean


def test_no_sample_is_left_without_tokens() -> None:
    class Strict(Pooled):
        def forward(self, tokens: Tensor) -> Tensor:
            assert (tokens != 0).any(1).all()
            return super().forward(tokens)

    model = Strict(nonlinear=True)
    tokens, targets = sentences(model)
    tokens[:20, 1:] = 0  # of one token each
    found = measured(TokenAttack(samples=None, candidates=30), model, tokens, targets)
    with torch.no_grad():
        right = model(tokens).argmax(1) == targets
    assert right[:20].sum() > 3
    assert found.value < float(right.float().mean()) - 0.1


def test_no_more_tokens_are_replaced_than_may_be_and_by_neighbours_alone() -> None:
    model = Pooled(nonlinear=True)
    tokens, targets = sentences(model)
    attack = tokens_module.TokenAttack(table=model.words.weight.detach(), keep=(0, 5), candidates=3, share=0.4)
    start = torch.zeros_like(tokens)
    moved, worst = attack.perturb(model, Inputs.of(tokens), targets, start, task=Classification())
    changed = moved != tokens
    words = ((tokens != 0) & (tokens != 5)).sum(1)
    assert (changed.sum(1) <= (0.4 * words).long().clamp(min=1)).all()
    assert changed.any()
    assert not ((tokens == 5) & changed).any()
    near = attack.nearest(tokens.flatten()).view(*tokens.shape, 3)
    assert ((near == moved.unsqueeze(2)).any(2) | ~changed).all()
    with torch.no_grad():
        right = model(moved).argmax(1) == targets
    assert right.float().tolist() == worst.tolist()
    assert not torch.isin(near, torch.tensor([0, 5])).any()


def test_models_that_hide_their_embedding_are_refused() -> None:
    class Hidden(Pooled):
        def forward(self, tokens: Tensor) -> Tensor:
            result: Tensor = self.linear(self.words(tokens.clamp_min(1)).mean(1))
            return result

    class Twice(Pooled):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Embedding(VOCABULARY, WIDTH)

        def forward(self, tokens: Tensor) -> Tensor:
            result: Tensor = self.linear((self.words(tokens) + self.second(tokens)).mean(1))
            return result

    class Rounded(Pooled):
        def forward(self, tokens: Tensor) -> Tensor:
            return super().forward(tokens).detach()

    tokens, _ = sentences(Pooled())
    for model, message in ((Hidden(), "in 0 embeddings"), (Twice(), "in 2 embeddings")):
        with torch.no_grad():
            targets = model(tokens).argmax(1)
        for evaluator in (EmbeddingAttack(), TokenAttack()):
            with pytest.raises(TrialError, match=message):
                measured(evaluator, model, tokens, targets)
    rounded = Rounded()
    with torch.no_grad():
        targets = rounded(tokens).argmax(1)
    with pytest.raises(TrialError, match=r"no gradient to the inputs.*use: token-attack"):
        measured(EmbeddingAttack(), rounded, tokens, targets)
    measured(TokenAttack(), rounded, tokens, targets)  # asks for outputs alone


def test_the_embedding_is_found_among_others() -> None:
    model = Pooled()
    tokens, _ = sentences(model)
    assert embedding_table(model, Inputs.of(tokens)) is model.words.weight


@pytest.mark.slow
@pytest.mark.parametrize("evaluator", [EmbeddingAttack(epsilon=0.2), TokenAttack(candidates=4)], ids=lambda e: e.name)
def test_code_and_its_exported_graph_are_attacked_alike(evaluator: EmbeddingAttack | TokenAttack) -> None:
    """And code that looks rows up without a module."""

    class Functional(Pooled):
        def forward(self, tokens: Tensor) -> Tensor:
            found = nn.functional.embedding(tokens, weight=self.words.weight)
            known = (tokens != 0).unsqueeze(2)
            result: Tensor = self.linear(((found * known).sum(1) / known.sum(1).clamp_min(1)).tanh())
            return result

    model = Pooled(nonlinear=True)
    tokens, targets = sentences(model)
    size = torch.export.Dim("samples", min=1, max=200)
    graph = torch.export.export(model, (tokens,), dynamic_shapes=({0: size},), strict=False).module()
    found = [measured(evaluator, each, tokens, targets).value for each in (model, graph, Functional())]
    assert found[0] == found[1] == found[2]
    assert 0 < found[0] < 0.9


@pytest.mark.parametrize("evaluator", [EmbeddingAttack(), TokenAttack()], ids=lambda each: each.name)
def test_other_inputs_and_tasks_are_refused(evaluator: EmbeddingAttack | TokenAttack) -> None:
    model = Pooled()
    tokens, targets = sentences(model)
    with pytest.raises(DataError, match=rf"{evaluator.name} attacks tokens.*\(1, 7\) float32.*use pgd"):
        measured(evaluator, model, tokens.float(), targets)
    with pytest.raises(TrialError, match="nothing that is right or wrong"):
        measured(evaluator, model, tokens, torch.randn(len(tokens), 2), Regression())
    metric, *_ = evaluator.produces()
    assert (metric.name, metric.direction, metric.cost) == ("robust_accuracy", "maximize", Cost.ATTACK)


def test_a_vocabulary_of_too_few_is_refused() -> None:
    model = Pooled()
    tokens, targets = sentences(model)
    for evaluator in (TokenAttack(keep=(0, 40)), TokenAttack(candidates=40)):
        with pytest.raises(TrialError, match="token-attack: the model knows 40 tokens, which are too few"):
            measured(evaluator, model, tokens, targets)


def test_options() -> None:
    assert EmbeddingAttack(steps=5).final().steps == 10
    assert TokenAttack(candidates=4).final().candidates == 8
    for wrong in ({"epsilon": 0}, {"epsilon": float("inf")}, {"steps": 0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            EmbeddingAttack.model_validate(wrong)
    for wrong in ({"share": 0}, {"share": 1.1}, {"keep": []}, {"keep": [-1]}, {"candidates": 0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            TokenAttack.model_validate(wrong)


def test_auto_finds_an_epsilon_that_tells_models_apart() -> None:
    model = Pooled()
    tokens, targets = sentences(model, 100)
    found = EmbeddingAttack().evaluate(model, context(tokens, targets, Classification(), dense=model, of_dense=True))
    assert isinstance(found["epsilon"], float)
    assert isinstance(found["robust_accuracy"], Measured)
    assert 0.4 <= found["robust_accuracy"].value <= 0.8
    told = measured(EmbeddingAttack(epsilon=found["epsilon"]), model, tokens, targets)
    assert told.value == found["robust_accuracy"].value
    assert [metric.name for metric in EmbeddingAttack().produces()] == ["robust_accuracy", "epsilon"]
    assert [metric.name for metric in EmbeddingAttack(epsilon=0.1).produces()] == ["robust_accuracy"]


@pytest.mark.slow
def test_a_model_of_real_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both attacks cost it accuracy, more of it the farther they may go."""
    from autoprune_sources import Text

    examples = ROOT / "search_spaces/examples"
    monkeypatch.syspath_prepend(str(examples))
    models = __import__("sst2_models")
    tokens = {"vocabulary": 1000, "length": 16}
    source = SourceContext(folder=examples, cache=examples, seed=0)
    found = Text(path=str(SHARED / "data/sst2"), **tokens).load(source)
    known = found.train.part(torch.arange(500))  # a small model knows these well, and generalises little
    data = replace(found, train=known, validation=known)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.transformer_classifier(**tokens, width=16, heads=4, neurons=24, hidden=8)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        batches = [batch for _ in range(12) for batch in known.batches(50)]
        for inputs, targets in batches:
            optimizer.zero_grad()
            cross_entropy(inputs.feed(model), targets).backward()
            optimizer.step()
    for parameter in model.eval().parameters():
        parameter.grad = None
    fields = {"data": data, "of_dense": True}
    inputs, targets = data.validation.fetch(torch.arange(1))

    def robust(evaluator: EmbeddingAttack | TokenAttack) -> float:
        return measured(evaluator, model, inputs, targets, **fields).value

    with torch.no_grad():
        some = EmbeddingAttack(samples=64).batches(context(inputs, targets, Classification(), data=data))
        clean = sum(int((batch.feed(model).argmax(1) == wanted).sum()) for batch, wanted in some) / 64
    near, far = (robust(EmbeddingAttack(epsilon=epsilon, samples=64)) for epsilon in (0.2, 1.0))
    few, many = (robust(TokenAttack(share=share, candidates=4, samples=64)) for share in (0.01, 0.3))
    assert clean > 0.8
    assert far < near <= clean
    assert many <= few <= clean
    assert many < clean
    del sys.modules["sst2_models"]
