"""What is refused before the first trial, and where the refusal points."""

from __future__ import annotations

import pytest
import torch
import toy_plugin
from torch import nn

from autoprune.errors import PluginError, SpecError, StructureError
from autoprune.study.resolution import cache_folder, resolve


@pytest.mark.slow
def test_a_problem_is_the_spec_come_true(spec, host):
    problem = resolve(spec(), host)
    assert problem.device == torch.device("cpu")
    assert not problem.network.training
    assert [group.name for group in problem.structure.groups] == ["wide", "narrow"]
    assert list(problem.metrics) == ["share", "distance"]
    inputs, _ = problem.data.validation.fetch(torch.arange(3))
    normalised = (inputs.first - 0.5) / 0.3
    torch.testing.assert_close(inputs.feed(problem.predictor(problem.network)), problem.network(normalised))


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_missing_device_is_refused(spec, host, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SpecError, match=rf"spec\.yaml:11:1: device: {device} is asked for, but PyTorch sees no CUDA"):
        resolve(spec(swap=("device: cpu", f"device: {device}")), host)


def test_a_card_beyond_the_last_is_refused(spec, host, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SpecError, match="cuda:2 is asked for, but there are 2 CUDA devices"):
        resolve(spec(swap=("device: cpu", "device: cuda:2")), host)


def test_auto_is_the_cpu_where_there_is_no_card(spec, host, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve(spec("device=auto"), host).device.type == "cpu"


def test_a_sampler_that_cannot_do_so_many_objectives_is_refused(spec, host):
    with pytest.raises(SpecError, match=r"search\.sampler: takes 1 objectives, and there are 2") as caught:
        resolve(spec(swap=("use: toy-genetic", "use: toy-sampler, most: 1")), host)
    assert (caught.value.mistakes[0].line, caught.value.mistakes[0].column) == (9, 10)


def test_an_evaluator_that_refuses_the_data_is_refused_at_its_place(spec, host):
    with pytest.raises(SpecError, match=r"evaluators\.1: toy-distance needs bounds"):
        resolve(spec(swap=("use: toy-distance", "use: toy-distance, refuse: true")), host)
    bounded = spec("data.bounded=true", swap=("use: toy-distance", "use: toy-distance, refuse: true"))
    assert resolve(bounded, host).data.bounds == (0.0, 1.0)


def test_of_two_evaluators_of_one_name_the_one_that_refuses_is_named(spec, host):
    both = "use: toy-distance}, {use: toy-distance, refuse: true, label: two"
    with pytest.raises(SpecError, match=r"evaluators\.2: toy-distance needs bounds"):
        resolve(spec(swap=("use: toy-distance", both)), host)


def test_a_model_without_cuttable_units_is_refused_with_reasons(spec, host, monkeypatch):
    monkeypatch.setattr(toy_plugin.ToyModel, "build", lambda self, ctx: nn.Linear(6, 3))
    with pytest.raises(StructureError, match="no unit of the model can be cut: "):
        resolve(spec(), host)


@pytest.mark.slow
def test_nothing_to_search_is_refused(spec, host):
    with pytest.raises(SpecError, match=r"spec\.yaml:4:1: search_space: nothing to search"):
        resolve(spec('search_space.groups={"*": keep}'), host)
    with pytest.raises(SpecError, match="nothing to search"):
        resolve(spec("search_space.ratio={low: 0.5, high: 0.5}"), host)


def test_sources_that_break_their_contract_are_refused(spec, host, monkeypatch):
    monkeypatch.setattr(toy_plugin.ToyModel, "load", lambda self, data, ctx: "a model")
    with pytest.raises(PluginError, match="model toy-model gave a str, not a Module"):
        resolve(spec(), host)
    monkeypatch.setattr(toy_plugin.ToyData, "load", lambda self, ctx: None)
    with pytest.raises(PluginError, match="data toy-data gave a NoneType, not a Data"):
        resolve(spec(), host)


def test_sources_get_the_specs_folder_the_cache_and_the_seed(spec, host, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seen = []
    load = toy_plugin.ToyData.load
    monkeypatch.setattr(toy_plugin.ToyData, "load", lambda self, ctx: seen.append(ctx) or load(self, ctx))
    problem = resolve(spec("search.seed=5"), host)
    assert seen == [problem.sources]
    assert (seen[0].folder, seen[0].cache, seen[0].seed) == (tmp_path, tmp_path / "cache" / "autoprune", 5)


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "autoprune"


SHRINKS = """
from autoprune.plugin import Range, Transform

class Shrinks(Transform):
    name = "shrinks"
    low: float = 0.5

    def knobs(self, network):
        return (Range("wide", self.low, 1.0, usual=1.0),)

    def apply(self, network, choice, ctx):
        return network

    def rebuild(self, network, choice):
        return network

    def costs(self, layers, choice):
        return {} if choice["wide"] == 1 else {"wide": layers["no-such-layer"]}
"""


@pytest.mark.parametrize(
    ("transform", "told"),
    [
        ("{use: shrinks}", r"transform shrinks: KeyError: 'no-such-layer' \(shrinks\.py:18 in costs\)"),
        ("{use: shrinks, low: {low: 0.1, high: 0.5}}", "transform shrinks: transforms.low decides what else may be"),
        ("{use: shrinks, low: 2}", "transform shrinks: ValueError: wide: low 2 is not below high 1"),
    ],
)
def test_what_transforms_may_choose_is_tried_before_the_first_trial(spec, host, tmp_path, transform, told):
    (tmp_path / "shrinks.py").write_text(SHRINKS)
    host.load_file(tmp_path / "shrinks.py")
    with pytest.raises(SpecError, match=rf"transforms: {told}"):
        resolve(spec(f"transforms=[{transform}]"), host)


def test_arithmetic_that_fails_is_told_by_its_name(spec, host, tmp_path):
    (tmp_path / "odd.py").write_text(
        "from autoprune.plugin import Cost, ExactEvaluator, Metric\n"
        "class Odd(ExactEvaluator):\n"
        "    name = 'odd'\n"
        "    metrics = (Metric('odd', '', 'minimize', Cost.EXACT),)\n"
        "    def compute(self, costs, dense):\n"
        "        return {'odd': 1 / (costs.params - dense.params)}\n"
    )
    host.load_file(tmp_path / "odd.py")
    with pytest.raises(SpecError, match=r"evaluators: evaluator odd: ZeroDivisionError: .* \(odd\.py:6 in compute\)"):
        resolve(spec(swap=("{use: toy-distance}", "{use: toy-distance}, {use: odd}")), host)


def test_a_model_that_does_not_take_the_data_is_refused_at_its_place(spec, host, monkeypatch):
    monkeypatch.setattr(toy_plugin.ToyModel, "load", lambda *_: nn.Linear(5, 3))
    told = r"spec\.yaml:2:1: model: does not run on a batch of the data, \(4, 6\) float32: RuntimeError: mat1 and mat2"
    with pytest.raises(SpecError, match=told):
        resolve(spec(), host)
