"""The examples of any task, from their scripts to their fronts, and their metrics computed again by hand."""

from __future__ import annotations

import functools
import importlib
import os
import runpy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import autoprune
from autoprune.plugin import FrontPoint, Measured
from autoprune.study.front import Finals, measure_front
from autoprune.toolkit.packages import optional
from tests.fresh import returned
from tests.search_spaces import by_hand

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "search_spaces/examples"
DENSE = {
    "diabetes_mlp": ("mlp", "mlp.safetensors"),
    "mnist_multilabel": ("net", "net.safetensors"),
    "mnist_two_heads": ("TwoHeads", "net.safetensors"),
    "mnist_clip": ("TwoTowers", "towers.safetensors"),
    "mnist_cifar10_unet": ("UNet", "unet.safetensors"),
    "sst2_bert": ("BertForSequenceClassification", ""),
    "sst2_llama": ("LlamaForCausalLM", ""),
}
"""What makes the dense network of each example, and its weights, in a file or the whole folder."""
QUICK = ("diabetes_mlp", "mnist_two_heads")
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in DENSE]
TRIALS = 12


@dataclass(frozen=True)
class Searched:
    """An example after its search."""

    name: str
    made: Path
    result: autoprune.SearchResult

    @property
    def point(self) -> FrontPoint:
        """Of the front's pruned models the middle one; which they are differs from machine to machine."""
        pruned = [point for point in self.result.front.points if point.trial.origin != "dense"]
        return pruned[len(pruned) // 2]

    @property
    def dense(self) -> nn.Module:
        """As whoever trained it opens it."""
        maker, weights = DENSE[self.name]
        if not weights:
            return getattr(optional("transformers"), maker).from_pretrained(self.made).eval()
        network = getattr(importlib.import_module(self.name), maker)()
        network.load_state_dict(load_file(self.made / weights))
        return network.eval()

    def recount(self, network: nn.Module) -> dict[str, float]:
        """Its metrics on the test samples, by hand."""
        module = importlib.import_module(self.name)
        with torch.no_grad():
            return by_hand.METRICS[self.name](network, self.dense, self.made, module)


@pytest.fixture(scope="module", autouse=True)
def folders(cache):
    """Where data is, and where the scripts write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOPRUNE_DATA", str((ROOT / os.environ.get("AUTOPRUNE_DATA", "../shared")).resolve()))
        patch.setenv("AUTOPRUNE_MADE", str(cache / "made"))
        patch.syspath_prepend(EXAMPLES)
        yield cache / "made"


@pytest.fixture(scope="module")
def search(folders, tmp_path_factory):
    """Runs the script and the search of an example, once."""

    @functools.cache
    def of(name: str) -> Searched:
        returned(run_script, name)
        study = tmp_path_factory.mktemp(name) / "study"
        overrides = (
            f"search.trials={TRIALS}",
            "tracking.enabled=false",
            "device=cpu",
            "search.final.samples=all",
            f"output={study}",
        )
        spec = autoprune.load_spec(EXAMPLES / f"{name}.yaml", overrides=overrides)
        return Searched(name, folders / name, autoprune.search(spec, progress=False))

    return of


def run_script(name: str) -> None:
    """The script of an example, as from a shell."""
    sys.path.insert(0, str(EXAMPLES))
    sys.argv = [f"{name}.py"]
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


# By chance, of the sentences and of its training, a rung of the language model's ladder may be better than all else.
@pytest.mark.parametrize("name", [each for each in NAMES if each.values != ("sst2_bert",)])
def test_the_front_is_above_the_uniform_ladder(search, name):
    result = search(name).result
    trials, front = result.outcome.trials, result.front
    assert {trial.state for trial in trials} <= {"complete", "rejected"}, [trial.reason for trial in trials]
    ladder = [trial for trial in trials if trial.origin in ("dense", "ladder")]
    uniform = measure_front(ladder, front.objectives, Finals(), costs=result.study.costs)
    assert len(ladder) == 6
    assert uniform.reference == front.reference
    assert front.hypervolume > uniform.hypervolume


@pytest.mark.parametrize("name", NAMES)
def test_the_dense_metrics_are_those_by_hand(search, name):
    searched = search(name)
    check(searched.result.outcome.dense_test, searched.recount(searched.dense))


@pytest.mark.parametrize("name", NAMES)
def test_the_pruned_metrics_are_those_by_hand(search, name):
    searched = search(name)
    network = autoprune.load_pruned(searched.point.trial.model, trust=True)
    assert sum(p.numel() for p in network.parameters()) < sum(p.numel() for p in searched.dense.parameters())
    check(searched.point.test, searched.recount(network))


def check(recorded: Mapping[str, Measured], expected: Mapping[str, float]) -> None:
    """Every recorded metric is the expected one."""
    assert {name: measured.value for name, measured in recorded.items()} == pytest.approx(expected, rel=1e-6)


@pytest.mark.long
def test_the_pruned_language_model_generates_in_a_new_process(search):
    searched = search("sst2_llama")
    model = searched.point.trial.model
    tokenizer = optional("transformers").AutoTokenizer.from_pretrained(searched.made)
    tokens, network = tokenizer.encode("the film is"), autoprune.load_pruned(model, trust=True)
    assert returned(generated, model, tokens) == ["LlamaForCausalLM", by_hand.continued(network, tokens, 16)]


def generated(model: Path, tokens: list[int]) -> list[Any]:
    """The class of a saved model, and what it says next."""
    network = autoprune.load_pruned(model, trust=True)
    made = network.generate(torch.tensor([tokens]), max_new_tokens=16, min_new_tokens=16, do_sample=False)
    return [type(network).__name__, made[0].tolist()]
