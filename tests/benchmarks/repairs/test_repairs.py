"""Each repair that was made again gives back exactly what its form can say; the page tells what was stored."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Data, Split
from autoprune.testing import Bench

from . import closed_forms, low_rank
from .bench import LEVELS, shuffled
from .methods import METHODS
from .report import write_report
from .run import file_of, write


class Net(nn.Module):
    """Two convolutions, the first one with a norm, whose channels may be cut."""

    def __init__(self, padding: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.conv2, self.bn2 = nn.Conv2d(8, 5, 3, padding=padding, bias=False), nn.BatchNorm2d(5)
        self.linear = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.bn2(self.conv2(self.conv1(x))).relu().mean((2, 3)))


def bench_of(network: nn.Module) -> Bench:
    random = torch.Generator().manual_seed(0)
    splits = (
        Split.of_tensors(torch.randn(64, 3, 8, 8, generator=random), torch.randint(4, (64,), generator=random))
        for _ in range(3)
    )
    return Bench(network.eval(), Data(*splits, classes=4))


def folded(network: nn.Module, form: closed_forms.Form) -> tuple[float, float]:
    """Largest error of the outputs of the net without the second half of the first channels: as cut, and repaired."""
    bench = bench_of(network)
    ctx = bench.prune_context()
    inputs = bench.data.train.fetch(torch.arange(64))[0].first
    pruned = bench.pruned({"conv1": 4})
    with torch.no_grad():
        dense, cut = network(inputs), pruned.network(inputs)
        known = closed_forms.reads(network, lambda: network(inputs))
        closed_forms.apply(form, known, pruned, ctx)
        repaired = pruned.network(inputs)
    return float((cut - dense).abs().max()), float((repaired - dense).abs().max())


@pytest.fixture(autouse=True)
def hardly_any_ridge(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(closed_forms, "RIDGE", 1e-10)


def test_a_constant_channel_is_its_mean():
    network = Net()
    with torch.no_grad():
        network.conv1.weight[4:] = 0
        network.conv1.bias[4:] = torch.tensor([1.0, -2.0, 0.5, 3.0])
    before, after = folded(network, closed_forms.bias)
    assert before > 0.05
    assert after < 1e-5


@pytest.mark.parametrize("padding", [0, 1])
def test_linear_combinations_are_mixed(padding):
    network = Net(padding)
    combination = torch.randn(4, 4)
    with torch.no_grad():
        network.conv1.weight[4:] = torch.einsum("ok,kihw->oihw", combination, network.conv1.weight[:4])
        network.conv1.bias[4:] = combination @ network.conv1.bias[:4]
    before, after = folded(network, closed_forms.mixing)
    assert before > 0.05
    assert after < 1e-3 * before


def test_affine_combinations_take_the_affine_form():
    network = Net()
    combination = torch.randn(4, 4)
    with torch.no_grad():
        network.conv1.weight[4:] = torch.einsum("ok,kihw->oihw", combination, network.conv1.weight[:4])
        network.conv1.bias[4:] = torch.tensor([3.0, -2.0, 5.0, 3.0])
    before, after = folded(network, closed_forms.affine)
    _, mixed = folded(network, closed_forms.mixing)
    assert after < 1e-3 * before
    assert after < 0.1 * mixed


def test_moments_are_those_of_what_is_read():
    network = Net()
    inputs = torch.randn(6, 3, 8, 8)
    known = closed_forms.reads(network, lambda: [network(half) for half in inputs.split(3)])["conv2"]
    read = network.conv1(inputs).movedim(1, -1).reshape(-1, 8).detach().double().numpy()
    np.testing.assert_allclose(known.mean, read.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(known.gram / known.count, read.T @ read / len(read), rtol=1e-5, atol=1e-6)


def test_factors_are_the_best_for_what_a_layer_reads():
    """Eckart and Young on the outputs themselves."""
    network = nn.Sequential(nn.Linear(6, 5, bias=False))
    inputs = torch.randn(200, 6) @ torch.diag(torch.tensor([5.0, 3.0, 1.0, 1.0, 0.1, 0.1]))
    spectra = low_rank.spectra(network, low_rank.moments(network, lambda: network(inputs)), len(inputs))
    small = low_rank.factorized(network, spectra, {"0": 2})
    outputs = network(inputs).detach().double().numpy()
    left, values, right = np.linalg.svd(outputs, full_matrices=False)
    best = left[:, :2] * values[:2] @ right[:2]
    np.testing.assert_allclose(small(inputs).detach().numpy(), best, atol=1e-4)


def test_convolutions_of_low_rank_are_given_back():
    network = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1))
    with torch.no_grad():
        network[0].weight.copy_((torch.randn(6, 2) @ torch.randn(2, 36)).reshape(6, 4, 3, 3))
    inputs = torch.randn(20, 4, 7, 7)
    spectra = low_rank.spectra(network, low_rank.moments(network, lambda: network(inputs)), len(inputs))
    assert spectra["0"].costs().tolist() == [16 * min(rank * 42, 36 * 6) for rank in range(1, 7)]
    small = low_rank.factorized(network, spectra, low_rank.ranks(spectra, 16 * 2 * 42))
    assert small[0][0].out_channels == 2
    torch.testing.assert_close(small(inputs), network(inputs), atol=1e-4, rtol=1e-4)


def test_ranks_stay_in_the_budget():
    network = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    inputs = torch.randn(100, 20)
    spectra = low_rank.spectra(network, low_rank.moments(network, lambda: network(inputs)), len(inputs))
    chosen = low_rank.ranks(spectra, 500)
    spent = sum(int(spectra[name].costs()[rank - 1]) for name, rank in chosen.items())
    assert 300 < spent <= 500


def test_a_seed_says_which_train_samples_come_first():
    data = Data(*(Split.of_tensors(torch.arange(9.0).unsqueeze(1), torch.arange(9)) for _ in range(3)))
    first, second = (shuffled(data, seed).train.fetch(torch.arange(9))[1] for seed in (0, 1))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(9))
    assert first.tolist() != second.tolist()


def test_the_page_tells_medians_and_spreads(tmp_path):
    environment = {"cpu": "a machine", "bfloat16": "without", "load": "1.0", "versions": "some"}
    for method in METHODS:
        for seed, accuracy in enumerate((0.80, 0.82, 0.81)):
            points = [{"level": level, "ratio": 0.3, "macs": level, "accuracy": accuracy} for level in LEVELS]
            found = {"points": points, "environment": environment}
            write(file_of(tmp_path / "results", "resnet20", "l2", method, seed), found)
    write_report(tmp_path / "results", output=tmp_path / "repair.md", note="A remark.")
    page = (tmp_path / "repair.md").read_text()
    assert "| **ours**, 256 / 8,000 | 3 | **0.8100** (0.8000–0.8200) | **0.8100** (0.8000–0.8200) |" in page
    assert "| CORP-like | 3 | 0.8100 (0.8000–0.8200) |" in page
    assert "A remark." in page
    assert ET.fromstring((tmp_path / "repair.svg").read_text()).tag.endswith("svg")
