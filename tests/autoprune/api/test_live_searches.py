"""Searches of live networks and loaders, against plain torch: what is measured, what is left alone, what goes on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from transformers import BatchEncoding
from transformers.modeling_outputs import SequenceClassifierOutput

import autoprune
from autoprune import DataError, SpecError, StudyError
from autoprune.plugin import Cost, Evaluator, Metric, hookimpl

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(240, 6, generator=GENERATOR)
Y = (X[:, :4].abs() @ torch.randn(4, 3, generator=GENERATOR)).argmax(1)
PARTS = {"train": slice(0, 120), "validation": slice(120, 180), "test": slice(180, 240)}


class Rows(Dataset):
    """Samples as a list of whatever."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


class Streamed:
    """Batches that can be read again, but have no places."""

    def __init__(self, part: slice) -> None:
        self.part = part

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(X[self.part].split(16), Y[self.part].split(16), strict=True)


class ByName(nn.Module):
    """Takes keywords, and returns what transformers' models return."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden, self.out = nn.Embedding(9, 12), nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        kept = attention_mask.unsqueeze(-1)
        mean = (self.embed(input_ids) * kept).sum(1) / kept.sum(1)
        return SequenceClassifierOutput(logits=self.out(torch.relu(self.hidden(mean))))


class Two(nn.Module):
    """Takes two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(4, 12), nn.Linear(2, 8), nn.Linear(20, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.out(torch.relu(torch.cat((self.left(left), self.right(right)), 1)))


class Named(nn.Module):
    """Takes one tensor by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = plain()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels)


def plain() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3))


def encoded(samples: list[dict[str, Any]]) -> BatchEncoding:
    """Padded, as a tokenizer does it."""
    longest = max(len(sample["ids"]) for sample in samples)
    ids = torch.tensor([sample["ids"] + [0] * (longest - len(sample["ids"])) for sample in samples])
    mask = torch.tensor([[1] * len(s["ids"]) + [0] * (longest - len(s["ids"])) for s in samples])
    return BatchEncoding({"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([s["y"] for s in samples])})


def tokens(part: slice) -> Rows:
    ids = ((X * 2).round().clamp(-4, 3) + 5).long()
    samples = zip(ids[part].tolist(), Y[part].tolist(), strict=True)
    return Rows([{"ids": row[: 3 + n % 4], "y": y} for n, (row, y) in enumerate(samples)])


def by_name(part: slice) -> Rows:
    return Rows([{"pixels": x, "label": int(y)} for x, y in zip(X[part], Y[part], strict=True)])


def loader(dataset: Any, **options: Any) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=16, **options)


KINDS: dict[str, tuple[Any, Any]] = {
    "tuples": (plain, lambda part: loader(TensorDataset(X[part], Y[part]), shuffle=True)),
    "tensors": (plain, lambda part: (X[part], Y[part])),
    "stream": (plain, Streamed),
    "mappings": (Named, lambda part: loader(by_name(part))),
    "encodings": (ByName, lambda part: loader(tokens(part), collate_fn=encoded)),
    "two inputs": (Two, lambda part: loader(TensorDataset(X[part, :4], X[part, 4:], Y[part]))),
}


def batches(kind: str, part: str) -> Iterator[tuple[Any, Tensor]]:
    """What a loop of the user's own would see: how the network is called, and targets."""
    source = KINDS[kind][1](PARTS[part])
    for batch in [source] if isinstance(source, tuple) else source:
        if isinstance(batch, tuple | list):
            *inputs, targets = batch
            yield lambda net, inputs=inputs: net(*inputs), targets
        else:
            inputs = dict(batch)
            targets = inputs.pop("labels", None) if "labels" in inputs else inputs.pop("label")
            yield lambda net, inputs=inputs: net(**inputs), targets


def scores(net: nn.Module, call: Any) -> Tensor:
    said = call(net)
    return said if isinstance(said, Tensor) else said.logits


def accuracy(net: nn.Module, kind: str, part: str) -> float:
    right, count = 0, 0
    with torch.no_grad():
        for call, targets in batches(kind, part):
            right += int((scores(net, call).argmax(1) == targets).sum())
            count += len(targets)
    return right / count


def trained(kind: str) -> nn.Module:
    torch.manual_seed(2)
    net: nn.Module = KINDS[kind][0]()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(20):
        for call, targets in batches(kind, "train"):
            for _ in range(8 if kind == "tensors" else 1):
                optimizer.zero_grad()
                nn.functional.cross_entropy(scores(net, call), targets).backward()
                optimizer.step()
    return net


def searched(net: nn.Module, kind: str, folder: Path, **keys: Any) -> autoprune.SearchResult:
    settings: dict[str, Any] = {"trials": 3, "tracking": {"enabled": False}, "device": "cpu", "progress": False}
    data = {name: KINDS[kind][1](part) for name, part in PARTS.items()}
    return autoprune.search(**{"model": net, "data": data, "output": folder / "study", **settings, **keys})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_measured_is_what_a_loop_over_the_loaders_gives(kind: str, tmp_path: Path) -> None:
    net = trained(kind).train()
    before, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    result = searched(net, kind, tmp_path)
    assert [trial.state for trial in result.outcome.trials] == ["complete"] * 3
    assert {name: t.tolist() for name, t in net.state_dict().items()} == {n: t.tolist() for n, t in before.items()}
    assert [module.training for module in net.modules()] == modes
    net.eval()
    dense = accuracy(net, kind, "validation")
    assert 0.2 < dense < 1, "some are right, and some are not"
    assert result.outcome.trials[0].metrics["accuracy"].value == pytest.approx(dense)
    assert result.outcome.dense_test["accuracy"].value == pytest.approx(accuracy(net, kind, "test"))
    for point in result.front.points:
        pruned = autoprune.load_pruned(point.trial.model, dense=net)
        assert point.trial.metrics["accuracy"].value == pytest.approx(accuracy(pruned, kind, "validation"))
        assert point.test["accuracy"].value == pytest.approx(accuracy(pruned, kind, "test"))


def macro_recall(outputs: Tensor, targets: Tensor) -> float:
    """Mean recall over classes, as scikit-learn has it."""
    from sklearn.metrics import recall_score

    return float(recall_score(targets.numpy(), outputs.argmax(1).numpy(), average="macro"))


class Zeros(Evaluator):
    """The share of outputs below zero; of a class that nobody registered."""

    name = "zeros"
    metrics = (Metric("below_zero", "fraction", "maximize", Cost.FORWARD),)

    def evaluate(self, model, ctx):
        inputs, _ = ctx.data.split(ctx.split).fetch(torch.arange(len(ctx.data.split(ctx.split))))
        with torch.no_grad():
            return {"below_zero": float((inputs.feed(model) < 0).float().mean())}


@pytest.fixture(scope="module")
def recalled(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A search of a function and of a class of the user's own."""
    folder, net = tmp_path_factory.mktemp("recalled"), trained("tuples")
    told: list[str] = []

    class Notes:
        @hookimpl
        def autoprune_trial_finished(self, result: Any) -> None:
            told.append(f"{result.number} {result.state}")

    evaluators = [macro_recall, Zeros, "macs"]
    objectives = {"macro_recall": "maximize", "macs": "minimize"}
    observers = [Notes()]
    result = searched(net, "tuples", folder, evaluators=evaluators, objectives=objectives, observers=observers)
    return SimpleNamespace(net=net, result=result, folder=folder / "study", told=told)


@pytest.mark.slow
def test_functions_and_classes_measure(recalled: SimpleNamespace) -> None:
    from sklearn.metrics import recall_score

    assert recalled.told == ["0 complete", "1 complete", "2 complete"]
    for point in recalled.result.front.points:
        pruned = autoprune.load_pruned(point.trial.model, dense=recalled.net)
        with torch.no_grad():
            outputs = pruned(X[PARTS["test"]])
        expected = recall_score(Y[PARTS["test"]].numpy(), outputs.argmax(1).numpy(), average="macro")
        assert point.test["macro_recall"].value == pytest.approx(expected)
        assert point.test["below_zero"].value == pytest.approx(float((outputs < 0).float().mean()))


@pytest.mark.slow
def test_a_live_study_goes_on_with_its_objects(recalled: SimpleNamespace, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(recalled.folder, tmp_path / "study")
    data = {name: KINDS["tuples"][1](part) for name, part in PARTS.items()}
    components = [macro_recall, Zeros]
    with pytest.raises(SpecError, match="no evaluator is called 'zeros'"):
        autoprune.resume(folder, trials=4, model=recalled.net, data=data, progress=False)
    with pytest.raises(DataError, match=r"data: \{use: live\} is an object of the Python process that searched; go on"):
        autoprune.resume(folder, trials=4, components=components, progress=False)
    with pytest.raises(DataError, match=r"model: \{use: live\} is an object of the Python process"):
        autoprune.resume(folder, trials=4, data=data, components=components, progress=False)
    other = copy.deepcopy(recalled.net)
    with torch.no_grad():
        next(other.parameters()).mul_(1.01)
    with pytest.raises(DataError, match="its weights are not those that the study began with"):
        autoprune.resume(folder, trials=4, model=other, data=data, components=components, progress=False)
    with pytest.raises(SpecError, match=r"^autoprune: data: normalize is None in the study, not \{'mean': \[0\]"):
        options = {**data, "normalize": {"mean": [0], "std": [1]}}
        autoprune.resume(folder, model=recalled.net, data=options, components=components, progress=False)
    with pytest.raises(SpecError, match=r"^autoprune: model: use is 'live' in the study, not 'digits-cnn'"):
        autoprune.resume(folder, model="digits-cnn", data=data, components=components, progress=False)
    result = autoprune.resume(folder, trials=5, model=recalled.net, data=data, components=components, progress=False)
    assert [trial.number for trial in result.outcome.trials] == [0, 1, 2, 3, 4]
    before = [trial.metrics for trial in recalled.result.outcome.trials]
    assert [trial.metrics for trial in result.outcome.trials[:3]] == before


@pytest.mark.slow
def test_a_live_study_is_read_without_its_objects(recalled: SimpleNamespace) -> None:
    with pytest.raises(SpecError, match="no evaluator is called 'zeros'"):
        autoprune.open(recalled.folder)
    read = autoprune.open(recalled.folder, components=[Zeros])
    assert read.outcome == recalled.result.outcome
    assert repr(read) == repr(recalled.result)
    with pytest.raises(StudyError, match="holds no study"):
        autoprune.open(recalled.folder.parent)


@pytest.mark.slow
def test_a_saved_model_asks_for_the_dense_one(recalled: SimpleNamespace) -> None:
    folder = next(iter(recalled.result.models.values()))
    with pytest.raises(DataError, match=r"hand over one like it: load_pruned\(folder, dense=network\)") as error:
        autoprune.load_pruned(folder)
    assert "\n" not in str(error.value)
    untrained = plain()
    with torch.no_grad():
        opened, again = (autoprune.load_pruned(folder, dense=dense) for dense in (untrained, recalled.net))
        assert torch.equal(opened(X), again(X)), "the weights are the saved ones"


@pytest.mark.slow
def test_a_pruned_network_is_tuned_saved_and_searched_again(recalled: SimpleNamespace, tmp_path: Path) -> None:
    point = recalled.result.select("macs <= 400", maximize="macro_recall")
    network = autoprune.load_pruned(point.trial.model, dense=recalled.net)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X[:120]), Y[:120]).backward()
        optimizer.step()
    autoprune.save_pruned(network, tmp_path / "tuned")
    opened = autoprune.load_pruned(tmp_path / "tuned", dense=recalled.net)
    assert torch.equal(opened(X), network.eval()(X))
    result = searched(opened, "tuples", tmp_path, trials=2)
    assert result.outcome.trials[0].metrics["accuracy"].value == pytest.approx(
        accuracy(network, "tuples", "validation")
    )
    again = autoprune.load_pruned(list(result.models.values())[-1], dense=opened)
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in opened.parameters())


@pytest.mark.slow
def test_a_new_start_of_a_live_model_can_be_pruned_and_trained(tmp_path: Path) -> None:
    strategy = {"use": "pre-prune", "epochs": 1}
    result = searched(trained("tuples"), "tuples", tmp_path, strategy=strategy, trials=2)
    assert [trial.state for trial in result.outcome.trials] == ["complete"] * 2
