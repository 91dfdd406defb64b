"""Keyword inputs: found, cut, exported, saved and opened as positional ones are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.plugin import Inputs, SourceContext
from autoprune.structure import Structure, discover, load_program, load_pruned, save_program, write_pruned

from .nets import perturb
from .test_parity import candidate
from .toy_source import Toy


class Reader(nn.Module):
    """Tokens (N, 7), features (N, 7, 6) and a mask (N, 7), in any way of being called."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.features = nn.Embedding(20, 8), nn.Linear(6, 8)
        self.norm, self.hidden, self.head = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, tokens: Tensor, *, input: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: A002
        x = self.norm(self.embedding(tokens) + self.features(input))
        if mask is not None:
            x = x * mask[..., None]
        return self.head(self.hidden(x).relu().mean(1))


class Batch(Reader):
    """The same, of a dictionary alone."""

    def forward(self, **batch: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(**batch)


def batch(samples: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "mask": (torch.rand(samples, 7, generator=generator) > 0.3).float(),
        "input": torch.randn(samples, 7, 6, generator=generator),
        "tokens": torch.randint(20, (samples, 7), generator=generator),
    }


def positional(given: Mapping[str, Tensor]) -> Inputs:
    rest = {name: tensor for name, tensor in given.items() if name != "tokens"}
    return Inputs((given["tokens"],), rest)


WAYS = {
    "mapping": (Reader, Inputs.of),
    "both": (Reader, positional),
    "without a mask": (Reader, lambda given: positional({k: v for k, v in given.items() if k != "mask"})),
    "any keyword": (Batch, Inputs.of),
}


@pytest.fixture(scope="module", params=[(way, form) for way in WAYS for form in ("modules", "graph")], ids="-".join)
def found(request: pytest.FixtureRequest) -> tuple[nn.Module, Structure, str]:
    way, form = request.param
    torch.manual_seed(0)
    net = perturb(WAYS[way][0]())
    return net, discover(net, WAYS[way][1](batch(2)), form=form), way


@pytest.mark.slow
def test_cuts_equal_masked_networks(found: tuple[nn.Module, Structure, str]) -> None:
    net, structure, way = found
    assert {group.name: group.units for group in structure.groups} == {"embedding": 8, "hidden": 12}
    for seed in range(2):
        kept = candidate(structure, seed)
        inputs = WAYS[way][1](batch(3 + seed, seed))
        with torch.no_grad():
            small = inputs.feed(structure.cut(net, kept))
            torch.testing.assert_close(small, inputs.feed(structure.masked(net, kept)), atol=1e-5, rtol=1e-5)
            assert not torch.allclose(small, inputs.feed(net), atol=1e-4)


def test_the_example_is_what_it_was_found_with(found: tuple[nn.Module, Structure, str]) -> None:
    _, structure, way = found
    given = WAYS[way][1](batch(2))
    assert structure.example.kwargs.keys() == given.kwargs.keys()
    assert all(map(torch.equal, structure.example.tensors, given.tensors))


@pytest.mark.slow
def test_programs_take_the_same_keywords(found: tuple[nn.Module, Structure, str], tmp_path: Path) -> None:
    net, structure, way = found
    small = structure.cut(net, candidate(structure, 1))
    if way == "any keyword" and structure.form == "modules":
        with pytest.raises(StructureError, match=r"Batch takes mask by \*\*.*name it in the signature"):
            save_program(small, structure.example, tmp_path / "model.pt2")
        return
    save_program(small, structure.example, tmp_path / "model.pt2")
    opened = load_program(tmp_path / "model.pt2")
    inputs = WAYS[way][1](batch(5, 5))
    with torch.no_grad():
        torch.testing.assert_close(inputs.feed(opened), inputs.feed(small))
        again = discover(opened, WAYS[way][1](batch(2)))
        kept = candidate(again, 2)
        torch.testing.assert_close(inputs.feed(again.cut(opened, kept)), inputs.feed(again.masked(opened, kept)))


@pytest.mark.slow
def test_saved_models_take_the_same_keywords(found: tuple[nn.Module, Structure, str], tmp_path: Path) -> None:
    net, structure, way = found
    kept = candidate(structure, 1)
    small = structure.cut(net, kept)
    write_pruned(
        tmp_path,
        small,
        plan=structure.plan(net, kept),
        kept=kept,
        cut_units={group.name: group.units - len(kept[group.name]) for group in structure.groups},
        source=Toy(case="vgg"),
        ctx=SourceContext(folder=tmp_path, cache=tmp_path, seed=0),
        example=structure.example,
    )
    opened = load_pruned(tmp_path, dense=WAYS[way][0]())
    inputs = WAYS[way][1](batch(5, 5))
    with torch.no_grad():
        torch.testing.assert_close(inputs.feed(opened), inputs.feed(small))


def test_blocks_of_a_network_with_keywords_can_go() -> None:
    class Deep(Reader):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(3))
            self.around = nn.ModuleList(Around(block) for block in self.blocks)

        def forward(self, tokens: Tensor, *, input: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: A002
            x = self.embedding(tokens) + self.features(input)
            for block in self.around:
                x = block(x)
            return self.head(self.hidden(x * mask[..., None]).relu().mean(1))

    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    torch.manual_seed(0)
    net = perturb(Deep())
    structure = discover(net, batch(2), ["blocks"])
    (blocks,) = structure.groups
    assert blocks.units == 3
    kept = {blocks.name: torch.tensor([0, 2])}
    inputs = Inputs.of(batch(3, 1))
    with torch.no_grad():
        torch.testing.assert_close(
            inputs.feed(structure.cut(net, kept)), inputs.feed(structure.masked(net, kept)), atol=1e-5, rtol=1e-5
        )


def test_what_is_no_input_is_refused() -> None:
    with pytest.raises(TypeError, match="inputs are a tensor, several, or several by name"):
        discover(nn.Linear(2, 2), 3)  # type: ignore[arg-type]
