"""Latency: what is timed, in which order, and that a slower network has a larger ratio. No time is asserted."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Normalization, Split
from autoprune.study.predictor import Predictor
from autoprune_evaluators import Latency, Throughput

if TYPE_CHECKING:
    from conftest import Case

QUICK = Latency(repeats=6, seconds=0.0, warmup=1)


class Watched(nn.Module):
    """Records each call's input and name, and may take its time."""

    def __init__(self, name: str, calls: list[tuple[str, Tensor]], *, sleep: float = 0.0) -> None:
        super().__init__()
        self.label, self.calls, self.sleep = name, calls, sleep

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.label, x))
        self.inference = torch.is_inference_mode_enabled()
        time.sleep(self.sleep)
        return x.flatten(1)[:, :10]


@pytest.mark.slow
def test_the_two_networks_take_turns_on_the_same_normalised_batch(digits: Case) -> None:
    calls: list[tuple[str, Tensor]] = []
    normalization = Normalization((0.5,), (0.25,))
    pruned, dense = (Predictor(Watched(name, calls), normalization).eval() for name in ("pruned", "dense"))
    digits.measure(QUICK, pruned, dense=dense)
    inputs, _ = digits.data.validation.fetch(torch.arange(64))
    images = inputs.first
    (_, caught), *timed = calls
    assert torch.equal(caught, (images - 0.5) / 0.25)
    assert all(batch is caught for _, batch in timed)
    names = [name for name, _ in timed]
    assert names[:2] == ["pruned", "dense"]  # warm-up
    assert names[2:] == ["pruned", "dense", "dense", "pruned"] * 3
    assert pruned.network.inference


def test_the_timed_batch_is_the_same_whatever_precision_others_use(digits: Case) -> None:
    inputs, targets = digits.data.validation.fetch(torch.arange(64))
    coloured = digits.with_data(validation=Split.of_tensors(inputs.first.repeat(1, 3, 1, 1), targets))
    timed = {}
    for precision in (torch.float32, torch.bfloat16):
        calls: list[tuple[str, Tensor]] = []
        network = Watched("", calls)
        predictor = Predictor(network, Normalization((0.5,) * 3, (0.25,) * 3), precision=precision).eval()
        coloured.measure(QUICK, predictor, dense=predictor)
        timed[precision] = calls[-1][1]
    full, low = timed.values()
    assert full.is_contiguous()
    assert low.is_contiguous()
    assert low.dtype == torch.float32
    assert torch.equal(full, low)


def test_a_slower_network_has_a_larger_ratio(digits: Case) -> None:
    slow, quick = (Predictor(Watched("", [], sleep=sleep)).eval() for sleep in (0.05, 0.001))
    found = digits.measure(QUICK, slow, dense=quick)
    assert found["latency_ms"].value >= 50
    assert found["latency_ratio"].value > 2
    assert digits.measure(QUICK, quick, dense=slow)["latency_ratio"].value < 0.5


def test_the_dense_model_against_itself(digits: Case) -> None:
    found = digits.measure(Latency(repeats=10, seconds=0.2))
    for measured in found.values():
        assert measured.low is not None
        assert measured.high is not None
        assert 0 < measured.low <= measured.value <= measured.high < math.inf
        assert measured.samples is not None
        assert measured.samples >= 10
    assert found["latency_ms"].samples == found["latency_ratio"].samples
    assert 0.2 < found["latency_ratio"].value < 5


def test_a_batch_is_full_even_if_the_split_is_smaller(digits: Case) -> None:
    inputs, targets = digits.data.validation.fetch(torch.arange(3))
    calls: list[tuple[str, Tensor]] = []
    predictor = Predictor(Watched("", calls)).eval()
    digits.with_data(validation=Split.of_tensors(inputs, targets)).measure(
        Latency(batch_size=8, repeats=2, seconds=0), predictor
    )
    batch = calls[0][1]
    assert len(batch) == 8
    assert torch.equal(batch, inputs.first[torch.arange(8) % 3])


def test_inputs_by_name_are_timed_by_name(digits: Case) -> None:
    class Named(nn.Module):
        def forward(self, *, pixels: Tensor, mask: Tensor) -> Tensor:
            calls.append((pixels, mask))
            return pixels.flatten(1) * mask

    calls: list[tuple[Tensor, Tensor]] = []
    pixels, mask = torch.rand(5, 1, 2, 2), torch.ones(5, 4)
    split = Split.of_tensors({"pixels": pixels, "mask": mask}, torch.zeros(5, dtype=torch.int64))
    predictor = Predictor(Named(), Normalization((0.5,), (0.25,))).eval()
    digits.with_data(validation=split).measure(Latency(batch_size=5, repeats=2, seconds=0), predictor, dense=predictor)
    assert len(calls) > 5
    assert all(torch.equal(first, (pixels - 0.5) / 0.25) and torch.equal(other, mask) for first, other in calls)


def test_the_network_keeps_no_hook(digits: Case) -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("does not run")

    predictor = Predictor(Breaks()).eval()
    with pytest.raises(RuntimeError, match="does not run"):
        digits.measure(QUICK, predictor)
    assert not predictor.network._forward_pre_hooks


def test_throughput_is_batches_over_their_time(digits: Case) -> None:
    slow, quick = (Predictor(Watched("", [], sleep=sleep)).eval() for sleep in (0.05, 0.001))
    evaluator = Throughput(batch_size=8, repeats=4, seconds=0.0, warmup=1)
    found = digits.measure(evaluator, slow, dense=quick)
    assert 0 < found["throughput"].value <= 8 / 0.05
    assert found["throughput_ratio"].value < 0.5
    assert found["throughput_ratio"].difference.told_apart
    assert digits.measure(evaluator, quick, dense=slow)["throughput_ratio"].value > 2


def test_threads_are_those_that_were_asked_for_and_no_longer(digits: Case) -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.get_num_threads())
            return x

    seen: list[int] = []
    before = torch.get_num_threads()
    predictor = Predictor(Counts()).eval()
    digits.measure(Latency(threads=before + 1, repeats=2, seconds=0), predictor, dense=predictor)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_compiled_networks_are_timed(digits: Case) -> None:
    before = [parameter.clone() for parameter in digits.model.parameters()]
    found = digits.measure(Latency(mode="compile", repeats=4, seconds=0))
    assert found["latency_ms"].value > 0
    assert all(torch.equal(*pair) for pair in zip(before, digits.model.parameters(), strict=True))


def test_a_network_that_cannot_be_compiled_is_told_in_a_line(digits: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no compiler is installed\nsee the manual")

    monkeypatch.setattr(torch, "compile", lambda network, **_: refuse)
    with pytest.raises(TrialError, match=r"^latency: torch.compile can't make the network run: no compiler is .*ed$"):
        digits.measure(Latency(mode="compile", repeats=2, seconds=0))
