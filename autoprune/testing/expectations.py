"""What several kits expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from autoprune.plugin import Split, SplitName
from autoprune.plugin.task import shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Batch
    from autoprune.testing.bench import Bench


def assert_equal(first: dict[str, Tensor], again: dict[str, Tensor], what: str) -> None:
    """Assert that tensors did not change from one call to the next."""
    assert first.keys() == again.keys(), f"{what} of other names"
    differ = [name for name in first if not torch.equal(first[name], again[name])]
    assert not differ, f"{what} of {', '.join(differ[:3])} differ from one call to the next"


def assert_predicts(network: nn.Module, bench: Bench) -> None:
    """Assert that outputs are finite and of the dense network's shape."""
    with torch.no_grad():
        outputs = bench.task.pick(bench.examples().to(bench.device).feed(network))
        dense = bench.task.pick(bench.examples().to(bench.device).feed(bench.network))
    assert shapes(outputs) == shapes(dense), f"outputs are {shapes(outputs)}, not {shapes(dense)}"
    leaves = outputs.values() if isinstance(outputs, Mapping) else (outputs,)
    assert all(leaf.isfinite().all() for leaf in leaves), "outputs are not all finite"


def forbidden(name: SplitName) -> Split:
    """A split that nobody may read."""

    def read(index: Tensor) -> Batch:  # noqa: ARG001 - refuses them all
        raise AssertionError(f"the {name} split was used")

    return Split(length=64, read=read)
