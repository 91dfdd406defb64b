"""Faster passes that predict the same: images with their channels last, batch norms folded."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from autoprune.host.binding import spec_from_mapping
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Cost, DataSource, Evaluator, Metric, ModelSource, hookimpl
from autoprune.study import resolution as problems
from autoprune.study.jobs import Cut, Probe, Remeasure
from autoprune.study.predictor import Predictor
from autoprune.study.proposal import Proposal
from autoprune.study.resolution import resolve
from autoprune.study.trial import Runner
from autoprune.testing.toys import toy_data


class Flat(nn.Module):
    """A convolution, whose map is made a vector by ``view`` or by ``flatten``; its norm may be called by its parts."""

    def __init__(self, views: bool = False, parts: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8 * 36, 4)
        self.views, self.parts = views, parts
        with torch.no_grad():
            self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x):
        x, norm = self.conv(x), self.norm
        if self.parts:
            x = nn.functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
        else:
            x = norm(x).relu()
        return self.head(x.view(len(x), -1) if self.views else x.flatten(1))


class Looks(Evaluator):
    """Tells of the batch norms that are called in the models that it gets."""

    name = "looks"
    metrics = (Metric("norms", "batch norms", "minimize", Cost.FORWARD, "How many it has."),)

    def evaluate(self, model, ctx):
        return {"norms": sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())}


class Predicts(Looks):
    """The same, though it promised not to look."""

    name = "predicts"
    only_predicts = True


def flat_problem(tmp_path, **options):
    """A problem about `Flat`, which is made with those options."""

    class Images(DataSource):
        name = "images"

        def load(self, ctx):
            return toy_data()

    class Model(ModelSource):
        name = "flat"

        def build(self, ctx):
            return Flat(**options)

        def load(self, data, ctx):
            return self.build(ctx)

    class Plugin:
        @hookimpl
        def autoprune_components(self):
            return Images, Model, Looks, Predicts

    host = PluginHost()
    host.register(Plugin(), name="flat")
    text = {
        "name": "flat",
        "model": {"use": "flat"},
        "data": {"use": "images"},
        "scorer": {"use": "l1"},
        "strategy": {"use": "one-shot"},
        "evaluators": [{"use": "looks", "label": "found"}, {"use": "predicts", "label": "folded"}],
        "objectives": {"norms_found": "minimize", "norms_folded": "minimize"},
    }
    return resolve(spec_from_mapping(text, host=host, folder=tmp_path), host)


@pytest.mark.parametrize(("options", "norms"), [({}, 0), ({"parts": True}, 1)])
def test_norms_are_folded_for_evaluators_that_only_predict_where_predictions_stay(
    options, norms, tmp_path, monkeypatch
):
    monkeypatch.setattr(problems, "WORTH_IT", 0)
    problem = flat_problem(tmp_path, **options)
    runner = Runner(problem, tmp_path)
    result = runner.run(Proposal(number=3, origin="sampler", params={"ratio.conv": 0.5}, scorers={}))
    assert {name: metric.value for name, metric in result.metrics.items()} == {"norms_found": 1, "norms_folded": norms}
    again = runner.remeasure(Remeasure(number=3, dense=False))
    assert {name: metric.value for name, metric in again.metrics.items()} == {"norms_found": 1, "norms_folded": norms}


def test_norms_of_a_network_that_takes_no_time_are_not_folded(tmp_path):
    problem = flat_problem(tmp_path)
    assert problem.folded(problem.network) is problem.network


@pytest.mark.parametrize("views", [True, False])
def test_images_are_laid_out_as_the_model_takes_them(views, tmp_path):
    problem = flat_problem(tmp_path, views=views)
    runner = Runner(problem, tmp_path)
    images = runner._probing._probed(16)[0].first
    assert problem.channels_last == (not views)
    (effect,) = runner.probe(Probe(cuts=(Cut(scorer="l1", group="conv", units=3),), samples=16)).effects
    network = copy.deepcopy(problem.network)
    network.norm.train()
    predict, inputs = Predictor(network, problem.data.normalization), images
    with torch.no_grad():
        dense = predict(inputs).log_softmax(1)
        gone = network.conv.weight.abs().sum((1, 2, 3)).argsort()[:3]
        network.norm.weight[gone], network.norm.bias[gone] = 0.0, 0.0
        small = predict(inputs).log_softmax(1)
    divergence = (dense.exp() * (dense - small)).sum(1).mean()
    assert effect.divergence == pytest.approx(float(divergence), rel=1e-4)
