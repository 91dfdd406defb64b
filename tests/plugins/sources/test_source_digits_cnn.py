from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autoprune import DataError
from autoprune.plugin import Data, Normalization, SourceContext, Split
from autoprune_sources import _digits_cnn
from autoprune_sources.digits import Digits
from autoprune_sources.digits_cnn import DigitsCnn
from tests.fresh import started


@pytest.fixture(scope="module")
def digits():
    return Digits().load(None)


@pytest.fixture(scope="module")
def quick():
    """A net that is trained in an instant."""
    return DigitsCnn(width=2, epochs=1)


def accuracy(network, split):
    batch, targets = split.fetch(torch.arange(len(split)))
    images = batch.first
    with torch.no_grad():
        return (network(images).argmax(1) == targets).float().mean().item()


def weights(network):
    return torch.cat([tensor.flatten().float() for tensor in network.state_dict().values()])


def files(ctx):
    return sorted(path for path in ctx.cache.rglob("*") if path.is_file())


@pytest.mark.slow
def test_it_is_trained_to_97_percent(ctx, digits, cache):
    ctx = replace(ctx, cache=cache / "autoprune")  # of the session, which trains it once
    network = DigitsCnn().load(digits, ctx)
    assert accuracy(network, digits.validation) >= 0.97
    assert accuracy(network, digits.test) >= 0.97
    assert 20_000 <= sum(parameter.numel() for parameter in network.parameters()) <= 60_000
    assert not network.training
    # The cache gives back the same net, and opening a saved model the same architecture.
    assert torch.equal(weights(DigitsCnn().load(digits, ctx)), weights(network))
    DigitsCnn().build(ctx).load_state_dict(network.state_dict())


@pytest.mark.slow
def test_training_hangs_on_the_seed_alone(ctx, digits, quick):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = quick.load(digits, ctx)
    assert torch.equal(torch.get_rng_state(), before)
    threads = torch.get_num_threads()
    torch.manual_seed(2)
    torch.set_num_threads(2)
    again = quick.load(digits, replace(ctx, cache=ctx.cache / "other"))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(quick.load(digits, replace(ctx, seed=1))))


@pytest.mark.slow
def test_the_cache_is_used_and_keyed_by_everything(ctx, digits, quick, monkeypatch):
    quick.load(digits, ctx)
    trainings = []
    trained = _digits_cnn.trained
    monkeypatch.setattr(_digits_cnn, "trained", lambda *a, **k: trainings.append(a) or trained(*a, **k))
    quick.load(digits, ctx)
    assert not trainings
    fewer = replace(digits, train=digits.validation)
    scaled = replace(digits, normalization=Normalization((0.3,), (0.4,)))
    for model, data, context in [
        (DigitsCnn(width=2, epochs=2), digits, ctx),
        (DigitsCnn(width=3, epochs=1), digits, ctx),
        (quick, fewer, ctx),
        (quick, scaled, ctx),
        (quick, digits, replace(ctx, seed=1)),
    ]:
        model.load(data, context)
    assert len(trainings) == 5
    assert len(files(ctx)) == 6


@pytest.mark.slow
def test_it_learns_the_inputs_as_the_host_normalises_them(ctx, digits):
    data = replace(digits, normalization=Normalization((0.5,), (0.05,)))
    network = DigitsCnn(width=8, epochs=6).load(data, ctx)
    batch, targets = digits.validation.fetch(torch.arange(len(digits.validation)))
    images = batch.first
    with torch.no_grad():
        assert (network((images - 0.5) / 0.05).argmax(1) == targets).float().mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", None])
def test_a_damaged_cache_is_trained_anew(ctx, digits, quick, damage):
    expected = weights(quick.load(digits, ctx))
    (file,) = files(ctx)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert torch.equal(weights(quick.load(digits, ctx)), expected)
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_no_more_than_the_time(ctx, digits, quick, caplog):
    ctx.cache.write_text("a file where the folder should be")
    assert quick.load(digits, ctx) is not None
    assert "cannot be kept" in caplog.text


def trained_at_once(cache, bias):
    """Train on ten samples in this process."""
    split = Split.of_tensors((torch.arange(640.0).view(10, 1, 8, 8) / 640,), torch.arange(10))
    data = Data(train=split, validation=split, test=split, classes=10)
    network = DigitsCnn(width=2, epochs=1).load(data, SourceContext(folder=Path(), cache=cache, seed=0))
    bias.write_text(str(network.linear.bias.tolist()))


@pytest.mark.slow
def test_two_processes_at_once_share_the_cache(ctx, tmp_path):
    told = [tmp_path / "one.txt", tmp_path / "other.txt"]
    running = [started(trained_at_once, ctx.cache, bias) for bias in told]
    for process in running:
        process.join(120)
    assert [process.exitcode for process in running] == [0, 0]
    one, other = (bias.read_text() for bias in told)
    assert one == other
    assert [file.suffix for file in files(ctx)] == [".safetensors"]


def test_other_data_is_refused(ctx, digits, quick):
    with pytest.raises(DataError, match="takes 1x8x8 images of 10 classes"):
        quick.load(replace(digits, classes=11), ctx)
