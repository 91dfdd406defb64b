"""The harness: runs, their page, and what it counts."""

from __future__ import annotations

import importlib.util
import json
import signal
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from torch import nn

from autoprune import StructureError
from autoprune.plugin import Inputs
from autoprune.structure import discover
from autoprune.study.predictor import Predictor

from . import methods_engine
from . import run as runs
from .__main__ import main
from .course import Run, Runs, leads_from
from .digits_deep import DeepNet
from .figures import _telling
from .measure import Measure, counted, stayed
from .methods import METHODS
from .record import Point, Recorder, course
from .run import execute, result_file
from .tasks import EXAMPLES, QUICK, RECALIBRATE, TASKS, budget_of, load_setting, toy_setting

pytestmark = pytest.mark.filterwarnings("default")  # the peers' own

DIGITS = TASKS["digits"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def digits(cache):
    return load_setting(DIGITS, seed=0, cache=cache / "data")


def of_the_examples(name):
    spec = importlib.util.spec_from_file_location(f"{name}_of_the_peers", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def point(seconds, accuracy, macs_ratio, *, evaluated=True):
    metrics = {"accuracy": accuracy, "macs_ratio": macs_ratio}
    return Point(seconds=seconds, images=100 * int(seconds), evaluated=evaluated, metrics=metrics, reason=None)


@pytest.mark.slow
def test_runs_and_their_page(cache, capsys):
    names = [name for name in ("ours", "ours-recalibrated", "uniform", "tp-uniform") if not METHODS[name].missing]
    for name in names:
        budget = budget_of(DIGITS, METHODS[name].kind, QUICK)
        stored = execute(DIGITS, METHODS[name], seed=0, budget=budget, results=cache)
        assert stored["error"] is None
        assert stored["hypervolume"]["validation"] > 0
        assert 0 < len(stored["members"]) <= 15
        assert [p["seconds"] for p in stored["points"]] == sorted(p["seconds"] for p in stored["points"])
        for member in stored["members"]:
            # MACs by the counter, on the saved model, are those that were computed for the candidate.
            assert member["test"]["macs_ratio"] == pytest.approx(member["search"]["macs_ratio"], abs=1e-12)
            better = 1.0 if name in ("ours", "uniform") else 0.02  # at its end a search repairs members again
            assert -0.02 <= member["again"]["accuracy"] - member["search"]["accuracy"] <= better
    before = {name: result_file(cache, "digits", name, 0).stat().st_mtime_ns for name in names}
    page = cache / "docs" / "benchmarks.md"
    main(["--quick", "--results", str(cache), "--output", str(page), "--methods", *names, "fastnas"])
    assert {name: result_file(cache, "digits", name, 0).stat().st_mtime_ns for name in names} == before
    told = capsys.readouterr().out
    assert told.count("there: ") == len(names)
    assert "fastnas seed 0: not run: no environment given" in told
    text = page.read_text()
    final = json.loads(result_file(cache, "digits", "ours", 0).read_text())["hypervolume"]
    assert f"| {final['validation']:.3f} | {final['test']:.3f} |" in text
    assert "| ModelOpt FastNAS | not run: no environment given |" in text
    for figure in ("benchmarks_time.svg", "benchmarks_candidates.svg"):
        assert figure in text
        root = ET.parse(page.with_name(figure)).getroot()
        assert any("Small CNN on digits" in (node.text or "") for node in root.iter())


@pytest.mark.slow
def test_a_search_that_is_interrupted_leaves_no_result(tmp_path, monkeypatch):
    class Stops(Recorder):
        def add(self, metrics, **options):
            super().add(metrics, **options)
            if len(self.points) == 5:  # more than a toy run has
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(runs, "Recorder", Stops)
    with pytest.raises(KeyboardInterrupt):
        execute(DIGITS, METHODS["random"], seed=7, results=tmp_path, budget=8)
    assert not result_file(tmp_path, "digits", "random", 7).exists()


@pytest.mark.slow
def test_images_count_for_every_method_alike(digits):
    recorder = Recorder(DIGITS)
    with recorder.running():
        measure = Measure(digits)
        measure.recover(digits.network, 0)
        measure(digits.network)
        recorder.add(measure(digits.network))
        recorder.add(None, reason="nothing was evaluated for this one")
        digits.example.feed(Predictor(digits.network))
        recorder.add({"accuracy": 0.5, "macs_ratio": 0.5})
    digits.example.feed(Predictor(digits.network))
    # The dense network, two samples twice before that, and the cut one.
    repair, validation = 2 + 2 + 256 + 256, len(digits.data.validation)
    repair += 12 + 12  # one in twenty, by both networks: whether the repair is to stay
    first = repair + 3 * validation  # once of the dense network, for the difference from it
    assert [p["images"] for p in recorder.points] == [first, first, first + len(digits.example)]
    assert [p["evaluated"] for p in recorder.points] == [True, False, True]


def networks():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 32, 32, generator=generator)
    tokens = torch.randint(2, 100, (2, 12), generator=generator)
    texts, resnets = of_the_examples("sst2_models"), of_the_examples("cifar_resnet")
    yield resnets.resnet20(), image
    yield of_the_examples("cifar10_mobilenet").mobilenet(), image
    yield texts.lstm_classifier(vocabulary=100, width=16, units=12, hidden=16), tokens
    yield texts.transformer_classifier(vocabulary=100, width=16, neurons=32, hidden=16, heads=4), tokens
    yield DeepNet(), image[:, :1, :8, :8]


@pytest.mark.slow
@pytest.mark.parametrize("place", range(5), ids=["resnet20", "mobilenet", "lstm", "transformer", "deep"])
def test_counted_macs_are_the_exact_ones(place):
    network, example = list(networks())[place]
    network.eval()
    structure = discover(network, (example,))
    assert len(structure.groups) >= (50 if isinstance(network, DeepNet) else 3)
    assert counted(network, Inputs.of(example)).macs == structure.costs().macs
    generator = torch.Generator().manual_seed(place)
    kept = {
        g.name: torch.randperm(g.units, generator=generator)[: max(1, g.units // 2)].sort().values
        for g in structure.groups
    }
    small = counted(structure.cut(network, kept), Inputs.of(example))
    exact = structure.costs({g.name: g.units - len(kept[g.name]) for g in structure.groups})
    assert (small.macs, small.params) == (exact.macs, exact.params)
    assert small.macs < counted(network, Inputs.of(example)).macs


@pytest.mark.slow
def test_a_networks_measures_are_those_of_its_trial(digits, tmp_path):
    recorder = Recorder(DIGITS)
    methods_engine.run(digits, recorder, tmp_path, recover=RECALIBRATE, trials=3, ladder=2, **methods_engine._PLAIN)
    measure = Measure(digits)
    for index, network in recorder.members():
        assert measure(network) == pytest.approx(recorder.points[index]["metrics"], abs=1e-12)


@pytest.mark.parametrize("number", range(3))
def test_what_stayed_is_told_by_the_weights(number):
    network, example = list(networks())[number]
    network, names = network.eval(), {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    structure = discover(network, Inputs.of(example))
    kept = {group.name: torch.arange(group.units)[::2] for group in structure.groups}
    small = structure.cut(network, kept)
    for name in names:
        assert torch.equal(stayed(network, small, name), structure.rows(kept, name))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.1)
    with pytest.raises(StructureError, match="weights that the dense network has not"):
        stayed(network, small, min(names))


def test_course():
    points = [point(1, 0.5, 0.5), point(2, 0.4, 0.6), point(3, 0.9, 0.8), point(4, 0.05, 0.1)]
    volumes = course(DIGITS, points)
    assert volumes == pytest.approx([0.2, 0.2, 0.2 + 0.4 * 0.2, 0.2 + 0.4 * 0.2])


def run_of(*points, seed=0):
    stored = {"seed": seed, "points": list(points), "hypervolume": {"test": 0.0}}
    return Run.of(DIGITS, stored)


def test_time_to_reach_and_medians():
    quick = run_of(point(1, 0.6, 0.5), point(5, 0.9, 0.5))
    slow = run_of(point(2, 0.1, 0.5), point(3, 0.6, 0.5, evaluated=False), point(8, 0.7, 0.5))
    runs = Runs((quick, slow))
    assert runs.finals == pytest.approx([0.4, 0.3])
    assert runs.to_reach(0.25) == (2, {"seconds": 2.0, "evaluated": 1.0, "images": 200.0})
    reached, needed = runs.to_reach(0.35)
    assert (reached, needed["seconds"]) == (1, float("inf"))
    low, middle, high = runs.at(np.array([0.5, 1.0, 4.0, 100.0]))
    assert low == pytest.approx([0, 0, 0.25, 0.3])
    assert middle == pytest.approx([0, 0.125, 0.25, 0.35])
    assert high == pytest.approx([0, 0.25, 0.25, 0.4])


def test_who_leads_and_since_when():
    ours, other = Runs((run_of(point(4, 0.9, 0.5)),)), Runs((run_of(point(1, 0.5, 0.5)),))
    assert leads_from(ours, [other]) == 4.0
    assert leads_from(other, [ours]) is None
    assert leads_from(other, [ours], until=3.0) == 1.0


def test_a_figure_leaves_out_only_what_cannot_be_seen():
    rng = np.random.default_rng(0)
    curves = np.sort(rng.random((3, 400)) ** 3, axis=1)
    told = _telling(curves)
    assert len(told) < 300
    assert (told[0], told[-1]) == (0, 399)
    shown = curves[:, [max(place for place in told if place <= column) for column in range(400)]]
    assert np.abs(shown - curves).max() <= curves.max() / 100


class TestTorchPruning:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("torch_pruning")

    def test_ranks_and_cuts_as_our_scorer_does(self):
        from .methods_torch_pruning import Cutter

        setting = toy_setting(DIGITS)
        cutter = Cutter.find(setting.network, setting.example)
        assert {frozenset(layers) for layers, _ in cutter.groups} == {
            frozenset(layers) for layers in (("outer", "stem"), ("inner",), ("top",))
        }
        small = cutter.cut([0.5] * 3)
        layers = dict(setting.network.named_modules())
        magnitudes = layers["inner"].weight.abs().mean((1, 2, 3))
        kept = magnitudes.argsort(descending=True)[:3].sort().values
        stem = torch.stack([layers[name].weight.abs().sum((1, 2, 3)) for name in ("stem", "outer")]).sum(0)
        stream = stem.argsort(descending=True)[:4].sort().values
        assert torch.equal(small.inner.weight, layers["inner"].weight[kept][:, stream])

    def test_says_what_it_cannot_cut(self):
        from .methods_torch_pruning import Cutter

        lstm = of_the_examples("sst2_models").lstm_classifier(vocabulary=100, width=16, units=12, hidden=16).eval()
        cutter = Cutter.find(lstm, Inputs.of(torch.randint(2, 100, (2, 12))))
        assert "cannot cut lstm" in cutter.note()
