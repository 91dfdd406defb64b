"""Kits for sources of data and models."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch

from autoprune.plugin import Data, DataSource, ModelSource, SourceContext, SplitName
from autoprune.study.predictor import Predictor
from autoprune.testing.components import ComponentConformance
from autoprune.testing.toys import toy_data

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from autoprune.plugin import Batch, Split, Task

_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_BATCH = 256


class DataSourceConformance(ComponentConformance):
    """Tests of a data source."""

    contract = DataSource
    repeated: ClassVar[float] = 0.0
    """Largest fraction of a split that may stand in another one, for data that itself holds a sample twice."""
    compared: ClassVar[int] = 5000
    """Samples of each split that are looked at."""

    @pytest.fixture
    def ctx(self, tmp_path: Path) -> SourceContext:
        """The folder of the spec and the cache; override it where relative paths have to lead somewhere."""
        return SourceContext(folder=tmp_path, cache=tmp_path / "cache", seed=0)

    @pytest.fixture
    def loaded(self, component: DataSource, ctx: SourceContext) -> Data:
        """The data."""
        return component.load(ctx)

    @pytest.mark.parametrize("name", _SPLITS)
    def test_batches_are_well_formed(self, loaded: Data, name: SplitName) -> None:
        """Inputs and targets of the same number of samples, on the CPU, finite, within the bounds; classes count."""
        split = loaded.split(name)
        assert len(split) > 0, f"{name} is empty"
        inputs, targets = _first(split, self.compared)
        tensors = _tensors((inputs, targets))
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors), "targets are a tensor, or several by name"
        count = min(self.compared, len(split))
        odd = [tuple(tensor.shape) for tensor in tensors if tensor.dim() == 0 or len(tensor) != count]
        assert not odd, f"{count} samples were asked for; there is a tensor of shape {odd[0]}"
        assert all(tensor.device.type == "cpu" for tensor in tensors)
        assert all(tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()), "not all is finite"
        if loaded.classes is not None:
            assert isinstance(targets, torch.Tensor), "classes are a tensor; of other targets, leave `classes` out"
            assert targets.dtype == torch.int64, f"classes are int64, not {targets.dtype}"
            assert targets.dim() == 1, f"classes are one per sample; their shape is {tuple(targets.shape)}"
            assert targets.min() >= 0, f"class {targets.min()}"
            assert targets.max() < loaded.classes, f"class {targets.max()} of {loaded.classes}"
        if loaded.bounds is not None:
            low, high = loaded.bounds
            first = inputs.first
            assert low <= first.min(), f"an input is {first.min()}, below the bound {low}"
            assert first.max() <= high, f"an input is {first.max()}, above the bound {high}"

    @pytest.mark.parametrize("name", _SPLITS)
    def test_samples_are_fetched_by_their_index(self, loaded: Data, name: SplitName) -> None:
        """In any order, alone or together, a sample and its targets are the same, and no two batches share them."""
        split = loaded.split(name)
        index = torch.tensor([len(split) - 1, 0, len(split) // 2])
        together = _tensors(split.fetch(index))
        kept = [tensor.clone() for tensor in together]
        for tensor in together:
            tensor.zero_()
        for place, one in enumerate(index):
            alone = _tensors(split.fetch(one.view(1)))
            assert all(torch.equal(a[0], k[place]) for a, k in zip(alone, kept, strict=True)), (
                f"sample {one} of {name} is another one when it is fetched again"
            )

    def test_splits_share_no_sample(self, loaded: Data) -> None:
        """What the search measures, and what the front is measured on, was never trained on."""
        found = {name: _contents(loaded.split(name), self.compared) for name in _SPLITS}
        for one, other in itertools.combinations(_SPLITS, 2):
            shared = (found[one] & found[other]).total()
            smaller = min(found[one].total(), found[other].total())
            assert shared <= self.repeated * smaller, f"{one} and {other} share {shared} samples"

    def test_loads_the_same_again(self, component: DataSource, ctx: SourceContext, loaded: Data) -> None:
        """A study that is resumed goes on with the same splits, whatever ran before."""
        again = component.load(ctx)
        for name in _SPLITS:
            first, second = _first(loaded.split(name), self.compared), _first(again.split(name), self.compared)
            assert _same(first[0].tensors, second[0].tensors), f"{name} differs"
            assert _same(_tensors(first), _tensors(second)), f"{name} has other targets"

    def test_normalisation_fits_the_channels(self, loaded: Data) -> None:
        """One mean and deviation per channel of the first input."""
        if loaded.normalization is not None:
            inputs, _ = loaded.train.fetch(torch.arange(1))
            assert len(loaded.normalization.mean) == len(loaded.normalization.std) == inputs.first.shape[1]
            assert all(value > 0 for value in loaded.normalization.std)


class ModelSourceConformance(ComponentConformance):
    """Tests of a model source."""

    contract = ModelSource

    @pytest.fixture
    def data(self) -> Data:
        """Data that the model takes: the toys'; override it where it takes other inputs."""
        return toy_data()

    @pytest.fixture
    def ctx(self, tmp_path: Path) -> SourceContext:
        """The folder of the spec and the cache; override it where relative paths have to lead somewhere."""
        return SourceContext(folder=tmp_path, cache=tmp_path / "cache", seed=0)

    @pytest.fixture
    def task(self) -> Task | None:
        """Picks the tensor that counts of what the model returns: override it where that is no tensor."""
        return None

    def test_the_model_predicts(
        self, component: ModelSource, data: Data, ctx: SourceContext, task: Task | None
    ) -> None:
        """A tensor with an entry for each sample, finite, on the CPU; where the data has classes, their scores."""
        network = component.load(data, ctx).eval()
        inputs, _ = data.validation.fetch(torch.arange(2))
        with torch.no_grad():
            outputs = inputs.feed(Predictor(network, data.normalization, task=task))
        assert isinstance(outputs, torch.Tensor), (
            f"the model returns a {type(outputs).__name__}; override the fixture `task` with one that picks a tensor"
        )
        shape = tuple(outputs.shape)
        assert shape[:1] == (2,), f"of two samples, outputs have the shape {shape}"
        assert data.classes is None or shape == (2, data.classes), f"of {data.classes} classes, outputs are {shape}"
        assert outputs.isfinite().all(), "outputs are not all finite"
        assert all(tensor.device.type == "cpu" for tensor in network.state_dict().values())

    def test_loads_the_same_again(self, component: ModelSource, data: Data, ctx: SourceContext) -> None:
        """A study that is resumed goes on with the same weights, whatever ran before."""
        first, second = _state(component.load(data, ctx)), _state(component.load(data, ctx))
        differ = [name for name in first if not torch.equal(first[name], second[name])]
        assert not differ, f"weights of {', '.join(differ[:3])} differ from one call to the next"

    def test_builds_what_a_saved_model_is_opened_with(
        self, component: ModelSource, data: Data, ctx: SourceContext
    ) -> None:
        """Without data, `build` gives the same architecture, which takes the loaded weights."""
        built, loaded = component.build(ctx), component.load(data, ctx)
        assert {n: t.shape for n, t in _state(built).items()} == {n: t.shape for n, t in _state(loaded).items()}
        built.load_state_dict(loaded.state_dict())

    def test_a_new_model_every_time(self, component: ModelSource, data: Data, ctx: SourceContext) -> None:
        """Two calls share no tensor: whoever changes one model does not change the other."""
        first, second = _state(component.load(data, ctx)), _state(component.load(data, ctx))
        shared = [name for name in first if first[name].data_ptr() == second[name].data_ptr() and first[name].numel()]
        assert not shared, f"two models share {', '.join(shared[:3])}"

    def test_leaves_no_trace(self, component: ModelSource, data: Data, ctx: SourceContext) -> None:
        """The import path and the global random generator are as before."""
        path, generator = list(sys.path), torch.get_rng_state()
        component.load(data, ctx)
        component.build(ctx)
        assert sys.path == path, "sys.path was changed"
        assert torch.equal(torch.get_rng_state(), generator), "the global random generator was used"


def _state(network: nn.Module) -> dict[str, torch.Tensor]:
    return dict(network.state_dict())


def _first(split: Split, count: int) -> Batch:
    return split.fetch(torch.arange(min(count, len(split))))


def _tensors(batch: Batch) -> list[Any]:
    """All of a batch's, the inputs' before the targets'."""
    inputs, targets = batch
    return [*inputs.tensors, *(targets.values() if isinstance(targets, Mapping) else (targets,))]


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def _contents(split: Split, count: int) -> Counter[tuple[bytes, ...]]:
    """The samples' inputs as a multiset."""
    found: Counter[tuple[bytes, ...]] = Counter()
    for inputs, _ in split.batches(_BATCH, samples=count):
        rows = ([tensor[i].contiguous().numpy().tobytes() for tensor in inputs.tensors] for i in range(len(inputs)))
        found.update(tuple(row) for row in rows)
    return found
