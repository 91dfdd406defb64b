"""Small nets after public bug reports: each is cut as it should be, or refused with the reason that is true."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune import StructureError
from autoprune.structure import discover

from .zeros import with_zeros

pytestmark = pytest.mark.slow

CASES = Path(os.environ.get("AUTOPRUNE_DATA", "../shared")).resolve() / "cases" / "engine"
CUT = {
    "dynamic_size": {"a": 16, "b": 8, "b#2": 8},
    "embbag": {"e": 16, "a": 24},
    "gru_cell": {"i": 12, "g": 16, "l": 10},
    "half": {"e": 16, "a": 32},
    "lambda_self": {"c1": 16, "c2": 16},
    "weight_norm_new": {"a.parametrizations.weight": 16, "up.parametrizations.weight": 8},
    "zeros_acc": {"i": 16},
    "aux_head_big": {"b.0": 64},
}
REFUSED = {
    "early_exit": r"early_exit\.py:13 \(if y\.softmax.*\).*compute both and choose by torch\.where",
    "mc_dropout": r"random in eval\(\).*mc_dropout\.py:12 .*drops out in eval\(\), too; give it training=self",
    "moe_dispatch": r"moe_dispatch\.py:14 \(\(rows,\) = .*\) makes tensors whose sizes depend on values",
    "packed_lstm": r"packed_lstm\.py:15 .*packs sequences",
}


def case(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"reported_{name}", CASES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(module: ModuleType) -> nn.Module:
    torch.manual_seed(0)
    return module.make().eval()  # type: ignore[no-any-return]


def leaves(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_cut_is_refused_with_the_reason(name: str) -> None:
    module = case(name)
    with pytest.raises(StructureError, match=REFUSED[name]) as error:
        discover(made(module), module.inputs(4, 1))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_what_can_be_cut_is_cut_right(name: str, ratio: float) -> None:
    """Against the masked network, and one that is built anew, with zeros; where norms average over units, the first."""
    module = case(name)
    dense = made(module)
    structure = discover(dense, module.inputs(4, 1))
    assert {group.name: group.units for group in structure.groups} == CUT[name]
    generator = torch.Generator().manual_seed(0)
    gone = {g.name: min(g.units - 1, round(ratio * g.units)) for g in structure.groups}
    kept = {
        g.name: torch.randperm(g.units, generator=generator)[: g.units - gone[g.name]].sort().values
        for g in structure.groups
    }
    wide = name == "half"
    small, masked = structure.cut(dense, kept).eval(), structure.masked(dense, kept).eval()
    assert sum(p.numel() for p in small.parameters()) == structure.costs(gone).params
    small, masked = (small.float(), masked.float()) if wide else (small, masked)
    references = [masked]
    if name not in ("half", "weight_norm_new"):
        references.append(with_zeros(made(module), structure.plan(dense, kept).kept))
    for n, more in ((4, {}), (1, {}), (7, {}), *(((3, {"size": 24}),) if name == "dynamic_size" else ())):
        x = module.inputs(n, 10 + n, **more)
        with torch.no_grad():
            found = leaves(small(*x))
            for reference in references:
                for one, other in zip(found, leaves(reference(*x)), strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    small.train()
    given = [y for y in leaves(small(*module.inputs(4, 3))) if y.requires_grad]
    torch.stack([y.float().square().mean() for y in given]).sum().backward()
