"""What trials share: made once, whoever comes first, and whoever is killed at it."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch
from racers import want
from safetensors import safe_open
from torch import nn
from toy_driver import wait_for

from autoprune.errors import TrialError
from autoprune.study.once import ONCE_FOLDER, once
from tests.fresh import started


def words(file):
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def fails():
    raise AssertionError("it was made again")


def test_it_is_made_once_and_kept_bit_by_bit(tmp_path):
    layer = nn.Linear(3, 2)
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-42])
    whole = torch.arange(12).reshape(3, 4)
    made = {"weight": layer.weight, "odd": odd, "view": whole[:, 1], "same": whole, "half": torch.ones(2).bfloat16()}
    first = once(tmp_path, "a key: {with} / anything", lambda: made)
    again = once(tmp_path, "a key: {with} / anything", fails)
    for found in (first, again):
        assert found.keys() == made.keys()
        for name, tensor in made.items():
            assert found[name].dtype == tensor.dtype
            assert not found[name].requires_grad
            bits = torch.int16 if tensor.dtype == torch.bfloat16 else torch.int32
            assert torch.equal(found[name].contiguous().view(bits), tensor.detach().contiguous().view(bits))
    again["weight"].zero_()
    first["same"].zero_()
    assert torch.equal(once(tmp_path, "a key: {with} / anything", fails)["weight"], layer.weight)
    (file,) = (tmp_path / ONCE_FOLDER).glob("*.safetensors")
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"key": "a key: {with} / anything"}, "the reader sees what it is"


def test_keys_are_told_apart(tmp_path):
    made = [
        once(tmp_path, key, lambda n=n: {"n": torch.tensor(n)})["n"].item() for n, key in enumerate(("a", "b", "a"))
    ]
    assert made == [0, 1, 0]


def test_what_is_no_tensors_by_name_is_refused_and_what_raises_is_tried_again(tmp_path):
    for wrong in ([torch.ones(1)], {"a": 1.0}, None):
        with pytest.raises(TrialError, match=r"once\('key'\): made a \w+, not tensors by name"):
            once(tmp_path, "key", lambda wrong=wrong: wrong)
    with pytest.raises(ZeroDivisionError):
        once(tmp_path, "key", lambda: 1 / 0)
    assert once(tmp_path, "key", lambda: {"a": torch.ones(1)})["a"] == 1


def test_a_file_that_nobody_wrote_whole_is_made_again(tmp_path):
    once(tmp_path, "key", lambda: {"a": torch.ones(100)})
    (file,) = (tmp_path / ONCE_FOLDER).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:60])
    assert once(tmp_path, "key", lambda: {"a": torch.zeros(1)})["a"] == 0


@pytest.mark.slow
def test_of_two_processes_that_want_it_one_makes_it(tmp_path):
    processes = [started(want, tmp_path, 0.3) for _ in range(2)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    ((maker,),) = words(tmp_path / "makers")
    assert sorted(words(tmp_path / "got")) == sorted([str(p.pid), maker] for p in processes)


@pytest.mark.slow
def test_a_maker_that_is_killed_leaves_it_to_those_who_wait(tmp_path):
    first = started(want, tmp_path, 60.0)
    wait_for(lambda: words(tmp_path / "makers"))
    second = started(want, tmp_path, 0.0)
    time.sleep(0.2)
    assert second.is_alive()
    assert len(words(tmp_path / "makers")) == 1, "it waits"
    os.kill(first.pid, signal.SIGKILL)
    second.join(timeout=30)
    first.join()
    assert second.exitcode == 0
    assert words(tmp_path / "makers") == [[str(first.pid)], [str(second.pid)]]
    assert words(tmp_path / "got") == [[str(second.pid), str(second.pid)]]
    names = {entry.suffix for entry in (tmp_path / ONCE_FOLDER).iterdir()}
    assert names == {".safetensors", ".lock"}, "nothing half done is left"


def test_what_a_killed_maker_had_half_written_goes(tmp_path):
    once(tmp_path, "key", lambda: {"a": torch.ones(1)})
    (file,) = (tmp_path / ONCE_FOLDER).glob("*.safetensors")
    file.rename(file.with_name(f".{file.stem}-1"))
    assert once(tmp_path, "key", lambda: {"a": torch.zeros(1)})["a"] == 0
    assert not [entry for entry in (tmp_path / ONCE_FOLDER).iterdir() if entry.name.startswith(".")]
