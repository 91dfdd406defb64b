"""What torch.export cannot trace is told in one line, with the model's own file and line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure import discover, save_program


class Net(nn.Module):
    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.way = nn.Linear(4, 4), way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self.linear(x))


def branches(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def loops(x: Tensor) -> Tensor:
    for _ in range(int((x > 0).sum())):
        x = x + 1
    return x


def picks(x: Tensor) -> Tensor:
    return x[x[:, 0] > -9]


def leaves(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().numpy())


def line_of(way: Callable[[Tensor], Tensor], after: int = 1) -> str:
    return f"{Path(__file__)}:{inspect.getsourcelines(way)[1] + after}"


@pytest.mark.parametrize(
    ("way", "helps"),
    [
        (branches, "choose by torch.where"),
        (loops, "choose by torch.where"),
        (picks, "mask entries instead of picking"),
        (leaves, "a forward() of tensor operations alone"),
    ],
)
def test_one_line_that_says_where_and_what_helps(
    way: Callable[[Tensor], Tensor], helps: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StructureError) as caught:
        discover(Net(way), torch.ones(2, 4))
    told = str(caught.value)
    assert "\n" not in told
    assert len(told) < 500
    assert (line_of(way) if way is not picks else line_of(Net.forward)) in told  # of modules alone, there
    assert helps in told
    assert capfd.readouterr() == ("", ""), "nothing of torch's own reaches the terminal"


def test_a_program_of_it_cannot_be_saved_either(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StructureError, match=r"choose by torch\.where") as caught:
        save_program(Net(branches), torch.ones(2, 4), tmp_path / "net.pt2")
    assert line_of(branches) in str(caught.value)
    assert capfd.readouterr() == ("", "")
