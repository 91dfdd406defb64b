"""Model extraction, against the Adversarial Robustness Toolbox and surrogates that are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from autoprune import TrialError
from autoprune.plugin import Data, EvaluationContext, Measured, Split
from autoprune.testing import Bench
from autoprune_evaluators._afresh import untrained
from autoprune_evaluators.extraction import ModelExtraction
from autoprune_tasks.regression import Regression

from .answers import COSTS


def net(width: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def of_digits() -> Data:
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    inputs, targets = torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(classes)[order]
    train, other = (Split.of_tensors(inputs[part], targets[part]) for part in (slice(900), slice(900, None)))
    return Data(train, other, other, classes=10, bounds=(0.0, 1.0))


@pytest.fixture(scope="module")
def bench() -> Bench:
    """Digits, and a net that has learnt them."""
    data, model = of_digits(), net()
    inputs, targets = data.train.fetch(torch.arange(900))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for module in model:
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(model(inputs.first), targets).backward()
        optimizer.step()
    optimizer.zero_grad()
    return Bench(model, data)


def measured(bench: Bench, network: nn.Module | None = None, **options: object) -> tuple[Measured, Measured]:
    found = bench.measure(ModelExtraction.model_validate(options), network=network)
    return found["extraction_fidelity"], found["extraction_accuracy"]


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_more_queries_copy_better(bench: Bench, labels: str) -> None:
    (few, _), (many, right) = (measured(bench, queries=queries, labels=labels) for queries in (30, 600))
    assert few.value + 0.1 < many.value
    assert many.value > 0.9
    assert right.value > 0.85
    assert few.low < few.value < few.high  # type: ignore[operator]
    assert few.samples == len(bench.data.validation)


def test_who_tells_nothing_is_copied_badly_where_it_matters(bench: Bench) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[torch.zeros(len(x), dtype=torch.int64)] + 0 * self.network(x.flatten(1))

    fidelity, accuracy = measured(bench, Constant())
    assert fidelity.value == 1
    assert accuracy.value == pytest.approx(0.1, abs=0.03)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_the_toolbox_copies_as_well(bench: Bench, labels: str) -> None:
    """Its surrogates, of the same architecture on as many queries: the mean of three is in our interval."""
    from art.attacks.extraction import CopycatCNN, KnockoffNets
    from art.estimators.classification import PyTorchClassifier

    def classifier(model: nn.Module) -> PyTorchClassifier:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
        return PyTorchClassifier(model, nn.CrossEntropyLoss(), (64,), 10, optimizer=optimizer)

    softmax = labels == "soft"
    victim = classifier(nn.Sequential(bench.network, nn.Softmax(1)) if softmax else bench.network)
    sizes = {"batch_size_fit": 64, "batch_size_query": 64, "nb_epochs": 60, "nb_stolen": 300}
    attack = (
        KnockoffNets(victim, **sizes, verbose=False, use_probability=True) if softmax else CopycatCNN(victim, **sizes)
    )
    asked, _ = bench.data.train.fetch(torch.arange(900))
    compared, targets = bench.data.validation.fetch(torch.arange(len(bench.data.validation)))
    theirs = victim.predict(compared.first.numpy()).argmax(1)
    found = []
    with torch.random.fork_rng():
        for seed in range(3):
            torch.manual_seed(seed)
            np.random.seed(seed)  # what the toolbox draws from
            thieved = attack.extract(asked.first.numpy(), thieved_classifier=classifier(net()))
            answers = thieved.predict(compared.first.numpy()).argmax(1)
            found.append([(answers == theirs).mean(), (answers == targets.numpy()).mean()])
    ours = [measured(bench, queries=300, labels=labels, epochs=60, seed=seed) for seed in range(3)]
    for index, mean in enumerate(np.mean(found, axis=0)):
        half = max(each[index].high - each[index].value for each in ours)  # type: ignore[operator]
        assert np.mean([each[index].value for each in ours]) == pytest.approx(mean, abs=half)


def test_a_model_is_compared_with_the_dense_one_on_the_same_samples(bench: Bench) -> None:
    """Which is measured first, as in a search."""
    evaluator, cut, cache = ModelExtraction(queries=100), bench.cut(bench.uniform(0.8)), {}
    found = []
    for network, of_dense in ((bench.network, True), (cut, False)):
        ctx = bench.contexts.evaluating(
            bench.predictor, seed=0, cache=cache, split="validation", costs=bench.structure.costs({}), of_dense=of_dense
        )
        found.append(evaluator.evaluate(bench.predictor(network), ctx))
    dense, pruned = found
    for name, value in pruned.items():
        alone = dense[name]
        assert isinstance(value, Measured)
        assert isinstance(alone, Measured)
        assert alone.difference is None
        assert value.difference is not None
        assert value.difference.value == pytest.approx(value.value - alone.value)


def test_numbers_are_extracted_too() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(120, 4, generator=generator)
    split = Split.of_tensors(inputs, inputs @ torch.randn(4, 1, generator=generator))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Linear(4, 1)
    bench = Bench(nn.Sequential(network), Data(split, split, split), task=Regression())
    found = bench.measure(ModelExtraction(epochs=100, lr=0.05))
    assert found["extraction_fidelity"].value > 0.9
    (inputs_, targets) = split.fetch(torch.arange(120))
    with torch.no_grad():
        loss = float((network(inputs_.first) - targets).square().mean())
    assert -found["extraction_accuracy"].value == pytest.approx(loss, rel=0.05)
    with pytest.raises(TrialError, match=r"one class per sample from hard labels.*use labels: soft"):
        bench.measure(ModelExtraction(labels="hard"))


def test_the_attacker_begins_without_what_the_model_has_learnt(bench: Bench) -> None:
    before = {name: tensor.clone() for name, tensor in bench.network.state_dict().items()}
    ctx = bench.contexts.evaluating(bench.predictor, seed=0, cache={}, split="validation", costs=COSTS)
    first, again, other = (untrained(ctx, seed, what="it") for seed in (0, 0, 1))
    for name, tensor in ctx.dense.state_dict().items():
        assert torch.equal(first.state_dict()[name], again.state_dict()[name])
        assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
        assert not torch.equal(first.state_dict()[name], tensor)
        assert torch.equal(before[name.removeprefix("network.")], tensor)


class Bare(nn.Module):
    """A net with weights that are no layer's."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Parameter(torch.randn(64, 32) / 8)
            self.second = nn.Linear(32, 10)
            self.gain = nn.Parameter(torch.ones(32))

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = x.flatten(1) @ self.first * self.gain
        return self.second(hidden.relu())  # type: ignore[no-any-return]


def attacked(bench: Bench, dense: nn.Module, build: Callable[[int], nn.Module]) -> EvaluationContext:
    ctx = bench.contexts.evaluating(bench.predictor, seed=0, cache={}, split="validation", costs=COSTS)
    return replace(ctx, dense=dense, build=build)


def test_bare_weights_begin_as_the_models_source_says(bench: Bench) -> None:
    dense = Bare(7).eval()
    with torch.no_grad():
        dense.gain *= torch.linspace(0.5, 1, 32)  # what it has learnt
    ctx = attacked(bench, dense, Bare)
    made = untrained(ctx, 3, what="it")
    assert all(map(torch.equal, made.state_dict().values(), Bare(3).state_dict().values()))
    found = ModelExtraction(queries=200).evaluate(dense, ctx)
    assert found["extraction_fidelity"].value > 0.5  # type: ignore[union-attr]


def test_what_a_source_builds_with_learnt_weights_draws_them_or_is_refused(bench: Bench) -> None:
    dense = Bare(7)
    with pytest.raises(TrialError, match=r"it: module of the model \(Bare\) has weights of its own and no reset_param"):
        untrained(attacked(bench, dense, lambda _: Bare(7)), 3, what="it")

    def partly(seed: int) -> Bare:
        built = Bare(seed)
        built.second.load_state_dict(dense.second.state_dict())
        return built

    made = untrained(attacked(bench, dense, partly), 3, what="it")
    assert torch.equal(made.get_parameter("first"), Bare(3).first)
    assert not torch.equal(made.get_parameter("second.weight"), dense.second.weight)


def test_what_cannot_be_copied_is_told(bench: Bench) -> None:
    nothing = Split.of_tensors(torch.zeros(1, 64), torch.zeros(1, dtype=torch.int64))
    fault = ModelExtraction().refuses(replace(bench.data, train=nothing))
    assert fault == "model-extraction asks about train samples, 2 or more; there are 1"
    broken = net()
    with torch.no_grad():
        broken[1].bias.fill_(float("nan"))
    with pytest.raises(TrialError, match="NaN"):
        bench.measure(ModelExtraction(), network=broken.eval())
