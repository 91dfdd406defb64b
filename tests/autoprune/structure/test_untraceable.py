"""What torch.export cannot trace is told in one line, with the model's own file and line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from autoprune.errors import StructureError
from autoprune.structure import discover, save_program


class Reader(nn.Module):
    """Reads tokens (N, T), 0 where a row has ended, by a recurrent layer; packed or padded."""

    def __init__(self, *, packed: bool, bidirectional: bool = False) -> None:
        super().__init__()
        self.packed = packed
        self.embedding = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 8, batch_first=True, bidirectional=bidirectional)
        self.linear = nn.Linear(16 if bidirectional else 8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = (tokens != 0).sum(1)
        x = self.embedding(tokens)
        if self.packed:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            _, (h, _) = self.lstm(x)
            return self.linear(h.transpose(0, 1).flatten(1))
        y, _ = self.lstm(x)
        return self.linear(y.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, y.shape[2])).flatten(1))


TOKENS = torch.tensor([[3, 4, 5, 0, 0], [2, 1, 0, 0, 0], [5, 6, 7, 8, 9]])


def quantised(x: Tensor) -> Tensor:
    return torch.ao.quantization.FakeQuantize()(x)


def counts_classes(x: Tensor) -> Tensor:
    return functional.one_hot((x > 0).long())


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
        (quantised, "prune the model before it is prepared for quantisation"),
        (counts_classes, "one_hot(…, num_classes=…)"),
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


def test_what_to_do_about_packed_sequences() -> None:
    with pytest.raises(StructureError, match=r"packs sequences.*y\.gather\(1, \(lengths") as told:
        discover(Reader(packed=True), TOKENS)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500


@pytest.mark.parametrize("bidirectional", [False, True])
def test_that_is_right(bidirectional: bool) -> None:
    """Padded while it is cut, the cut model takes packed sequences; in one direction both are the same."""
    torch.manual_seed(0)
    dense = Reader(packed=False, bidirectional=bidirectional).eval()
    structure = discover(dense, TOKENS)
    assert [(g.name, g.units) for g in structure.groups] == [("embedding", 6), ("lstm", 8)]
    kept = {"embedding": torch.tensor([0, 2, 3]), "lstm": torch.tensor([1, 4, 5])}
    small, masked = structure.cut(dense, kept).eval(), structure.masked(dense, kept)
    padded = small(TOKENS)
    small.packed = masked.network.packed = True
    torch.testing.assert_close(small(TOKENS), masked(TOKENS))
    if not bidirectional:
        torch.testing.assert_close(small(TOKENS), padded)
