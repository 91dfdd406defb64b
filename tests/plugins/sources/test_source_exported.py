from __future__ import annotations

import pytest
import torch
from torch import nn

from autoprune import DataError, discover, save_program
from autoprune.testing import toy_data
from autoprune_sources.exported import Exported


@pytest.mark.slow
def test_a_model_without_its_code_is_loaded_and_cut(ctx):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    inputs = torch.randn(4, 6)
    save_program(net, (inputs,), ctx.folder / "model.pt2")
    opened = Exported(path="model.pt2").load(toy_data(), ctx)
    with torch.no_grad():
        torch.testing.assert_close(opened(inputs), net(inputs))
    assert [(group.name, group.units) for group in discover(opened, (inputs,)).groups] == [("0", 8)]


def test_what_cannot_be_opened_is_named(ctx):
    with pytest.raises(DataError, match=r"there is no 'model.pt2'"):
        Exported(path="model.pt2").build(ctx)
    (ctx.folder / "model.pt2").write_text("no program")
    with pytest.raises(DataError, match="cannot be opened as an exported program"):
        Exported(path="model.pt2").build(ctx)
