"""Plugins as a third party would write them, packaged and single files, in searches with two workers.

What they make is saved, opened in a new process, gone on with and pruned again.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import autoprune
from autoprune import SearchResult, SpecError
from autoprune.host.plugins import PluginHost
from autoprune.structure import read_recipe

from ..witnesses import PLUGINS, Watched, check_saved_models

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_workers")]
FILES = Path(__file__).with_name("files")
COMMON: dict[str, Any] = {
    "scorer": {"use": "l1"},
    "tracking": {"enabled": False},
    "device": "cpu",
    "output": "study",
}


class Place:
    """A folder to search in, with copies of single-file plugins."""

    def __init__(self, folder: Path, *files: Path) -> None:
        self.folder = folder
        self.witnesses = folder / "witnesses"
        self.files = [Path(shutil.copy(file, folder)) for file in files]

    @property
    def witness(self) -> dict[str, Any]:
        return {"use": "witness", "folder": str(self.witnesses)}

    def search(self, spec: Mapping[str, Any]) -> Watched:
        host = PluginHost()
        named = COMMON | {"plugins": [f"./{file.name}" for file in self.files]} | dict(spec)
        made = autoprune.spec_from_mapping(named, folder=self.folder, host=host)
        return Watched(autoprune.search(made, host=host), self.witnesses)


@pytest.fixture(scope="module")
def packaged(quick_workers: str, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Inputs by keyword, an adaptive strategy and gates of the package; recall, table and exporter of single files."""
    files = (FILES / "recall.py", FILES / "table.py", PLUGINS / "witness.py", PLUGINS / "in_turn.py")
    place = Place(tmp_path_factory.mktemp("packaged"), *files)
    return place.search(
        {
            "name": "packaged",
            "model": {"use": "acme-net"},
            "data": {"use": "acme-pairs"},
            "strategy": {"use": "acme-adaptive", "recover": {"use": "fine-tune", "epochs": 2}},
            "transforms": [{"use": "acme-gates", "layers": ["second"], "epochs": 3}],
            "evaluators": [{"use": "params"}, {"use": "each-recall"}, place.witness],
            "objectives": {"recall_0": "maximize", "params": "minimize", "witness": "maximize", "mirror": "maximize"},
            "constraints": {"recall_3": ">= 0"},
            "search": {"sampler": {"use": "in-turn"}, "trials": 7, "ladder": 2, "workers": 2},
            "observers": [{"use": "csv"}],
            "exporters": [{"use": "npz"}],
        }
    )


@pytest.fixture(scope="module")
def single(quick_workers: str, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Everything from single files, which are deleted before the search goes on."""
    files = (PLUGINS / "tiny.py", FILES / "int8.py", FILES / "table.py", PLUGINS / "witness.py", PLUGINS / "in_turn.py")
    place = Place(tmp_path_factory.mktemp("single"), *files)
    first = place.search(
        {
            "name": "single",
            "model": {"use": "tiny-net"},
            "data": {"use": "tiny-data"},
            "transforms": [{"use": "int8", "layers": ["first"]}],
            "evaluators": [{"use": "size"}, {"use": "loss"}, place.witness],
            "objectives": {"loss": "minimize", "size_mb": "minimize", "witness": "maximize", "mirror": "maximize"},
            "search": {"sampler": {"use": "in-turn"}, "trials": 4, "ladder": 2, "workers": 2},
            "observers": [{"use": "csv"}],
        }
    )
    for file in place.files:
        file.unlink()
    assert not first.result.outcome.interrupted
    return Watched(autoprune.resume(first.result.study.folder, trials=6), place.witnesses)


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A task and an executor of the third party."""
    place = Place(tmp_path_factory.mktemp("threads"), PLUGINS / "witness.py")
    return place.search(
        {
            "name": "threads",
            "model": {"use": "acme-net"},
            "data": {"use": "acme-pairs", "labels": "several"},
            "task": {"use": "acme-multi-label"},
            "strategy": {"use": "one-shot", "recover": {"use": "distill", "epochs": 2}},
            "evaluators": [{"use": "macs"}, {"use": "accuracy"}, {"use": "loss"}, place.witness],
            "objectives": {"accuracy": "maximize", "macs": "minimize", "witness": "maximize", "mirror": "maximize"},
            "search": {"trials": 6, "ladder": 2, "workers": 2, "executor": {"use": "acme-threads"}},
        }
    )


def again(before: Watched, spec: Mapping[str, Any], folder: Path, number: int) -> Watched:
    """A search that begins with a saved model of another one, with that one's data and plugin files."""
    place = Place(folder, *(before.result.study.folder / "plugins").glob("*.py"))
    model = {"use": "pruned", "path": str(before.result.models[number]), "trust": True}
    search = {"sampler": {"use": "random"}, "trials": 3, "ladder": 2}
    return place.search({"model": model, "search": search, "evaluators": [{"use": "params"}, place.witness]} | spec)


OBJECTIVES = {"params": "minimize", "witness": "maximize", "mirror": "maximize"}


@pytest.fixture(scope="module")
def gated_again(packaged: Watched, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A gated model, pruned again."""
    trials = packaged.result.outcome.trials
    number = max(n for n in packaged.result.models if trials[n].knobs.get("acme-gates.second") == "gated")
    spec = {"name": "gated-again", "data": {"use": "acme-pairs"}, "objectives": OBJECTIVES}
    return again(packaged, spec, tmp_path_factory.mktemp("gated-again"), number)


@pytest.fixture(scope="module")
def int8_again(single: Watched, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A model with an int8 layer, pruned again where it has others.

    Units that an int8 layer reads stay: one of them may be the largest of a sample, which sets the scale of all.
    """
    spec = {"name": "int8-again", "data": {"use": "tiny-data"}, "objectives": OBJECTIVES}
    return again(single, spec, tmp_path_factory.mktemp("int8-again"), sorted(single.result.models)[1])


def test_every_trial_came_through(packaged: Watched, single: Watched, threads: Watched) -> None:
    for search, count in ((packaged, 7), (single, 6), (threads, 6)):
        trials = search.result.outcome.trials
        assert [trial.number for trial in trials] == list(range(count))
        assert {trial.state for trial in trials} == {"complete"}, [trial.reason for trial in trials]
        assert len(search.result.models) >= count - 1  # two trials may be the same cut
        assert all(point.test for point in search.result.front.points)


def test_saved_models_say_the_same_in_a_new_process(
    packaged: Watched, single: Watched, threads: Watched, gated_again: Watched, int8_again: Watched, tmp_path: Path
) -> None:
    check_saved_models(packaged, single, threads, gated_again, int8_again, scratch=tmp_path)


def test_two_workers_took_part(packaged: Watched) -> None:
    logs = (packaged.result.study.folder / "workers").glob("*.log")
    assert len(list(logs)) == 2


def test_the_strategy_allocates_from_validation_what_it_was_asked_for_in_all(packaged: Watched) -> None:
    moved = 0
    for trial in packaged.result.outcome.trials[1:]:
        units = {group.name: group.units for group in packaged.result.study.groups}
        # Rounded to whole units, of which no more than 0.8 may go.
        asked = {n: min(int(ratio * units[n] + 0.5), int(0.8 * units[n])) for n, ratio in trial.ratios.items()}
        lost = {name: round(ratio * units[name]) for name, ratio in trial.achieved.items()}
        assert sum(lost.values()) == sum(asked.values())
        moved += lost != asked
    assert moved


def test_gates_are_learnt_and_counted(packaged: Watched) -> None:
    trials = packaged.result.outcome.trials
    chosen = {number: trials[number].knobs.get("acme-gates.second", "bare") for number in packaged.kept}
    assert set(chosen.values()) == {"bare", "gated"}
    for number, choice in chosen.items():
        network = autoprune.load_pruned(packaged.result.models[number], trust=True)
        params = sum(parameter.numel() for parameter in network.parameters())
        assert trials[number].metrics["params"].value == params
        assert hasattr(network.second, "gate") == (choice == "gated")
        if hasattr(network.second, "gate"):
            assert (network.second.gate != 1).any()
            assert network.second.gate.shape == (network.head.in_features,)


def test_recall_is_of_the_classes_that_the_data_has(packaged: Watched) -> None:
    import acme_pruning  # type: ignore[import-not-found]

    data = acme_pruning.Pairs().load(None)
    inputs, targets = data.test.fetch(torch.arange(len(data.test)))
    for point in packaged.result.front.points:
        network = autoprune.load_pruned(packaged.result.models[point.trial.number], trust=True)
        with torch.no_grad():
            said = inputs.feed(network).argmax(1)
        pairs = list(zip(targets.tolist(), said.tolist(), strict=True))
        for n in range(4):
            expected = pairs.count((n, n)) / targets.tolist().count(n)
            assert point.test[f"recall_{n}"].value == pytest.approx(expected)
    assert "recall_4" not in packaged.result.study.units


def test_an_objective_on_a_class_that_the_data_does_not_have_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, FILES / "recall.py")
    with pytest.raises(SpecError) as caught:
        place.search(
            {
                "name": "nobody",
                "model": {"use": "acme-net"},
                "data": {"use": "acme-pairs"},
                "evaluators": [{"use": "each-recall"}],
                "objectives": {"recall_3": "maximize", "recall_4": "maximize"},
            }
        )
    (mistake,) = caught.value.mistakes
    assert mistake.path == ("objectives", "recall_4")
    assert "no evaluator makes this metric" in mistake.message


@pytest.mark.parametrize("name", ["packaged", "single"])
def test_the_table_has_every_trial_also_after_the_search_went_on(name: str, request: pytest.FixtureRequest) -> None:
    result: SearchResult = request.getfixturevalue(name).result
    file = Path(result.facts["csv"])
    assert file == result.study.folder / "observers" / "csv" / "trials.csv"
    header, *rows = csv.reader(file.read_text().splitlines())
    assert header == ["number", "state", *result.study.objectives]
    trials = {str(trial.number): trial for trial in result.outcome.trials}
    assert sorted(row[0] for row in rows) == sorted(trials)
    for number, state, *values in rows:
        metrics = trials[number].metrics
        assert state == trials[number].state
        assert [float(value) for value in values] == [metrics[name].value for name in header[2:]]


def test_every_model_of_the_front_is_exported(packaged: Watched) -> None:
    exports = packaged.result.exports
    assert exports.keys() == packaged.result.models.keys()
    for number, written in exports.items():
        network = autoprune.load_pruned(packaged.result.models[number], trust=True)
        with np.load(written["npz"].path) as arrays:
            state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        assert state.keys() == network.state_dict().keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
        told = json.loads(written["npz"].path.with_name("model.json").read_text())
        assert told["task"] == "classification"
        assert torch.tensor(told["said"]).shape[1] == 4


def test_int8_layers_cost_what_they_hold(single: Watched) -> None:
    for number, folder in single.result.models.items():
        network = autoprune.load_pruned(folder, trust=True)
        held = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
        assert single.result.outcome.trials[number].metrics["size_mb"].value * 1e6 == pytest.approx(held)
        if number:
            assert network.first.weight.dtype == torch.int8
            assert network.second.weight.dtype == torch.float32


def test_a_study_goes_on_with_its_own_copies_of_the_files(single: Watched) -> None:
    study = single.result.study
    assert not list(study.folder.parent.glob("*.py"))
    names = ["in_turn.py", "int8.py", "table.py", "tiny.py", "witness.py"]
    assert sorted(file.name for file in (study.folder / "plugins").iterdir()) == names


def test_the_tasks_own_metrics_are_measured(threads: Watched) -> None:
    import acme_pruning

    data = acme_pruning.Pairs(labels="several").load(None)
    inputs, targets = data.test.fetch(torch.arange(len(data.test)))
    for point in threads.result.front.points:
        network = autoprune.load_pruned(threads.result.models[point.trial.number], trust=True)
        with torch.no_grad():
            outputs = inputs.feed(network)
        right = ((outputs > 0) == targets.bool()).float().mean().item()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets).item()
        assert point.test["accuracy"].value == pytest.approx(right)
        assert point.test["loss"].value == pytest.approx(loss, rel=1e-5)


def test_a_model_with_replaced_modules_is_pruned_again(
    packaged: Watched, gated_again: Watched, single: Watched, int8_again: Watched
) -> None:
    for search in (gated_again, int8_again):
        trials = search.result.outcome.trials
        assert {trial.state for trial in trials} == {"complete"}, [trial.reason for trial in trials]
        assert trials[0].metrics["params"].value > trials[2].metrics["params"].value
        for number, folder in search.result.models.items():
            network = autoprune.load_pruned(folder, trust=True)
            params = sum(parameter.numel() for parameter in network.parameters())
            assert trials[number].metrics["params"].value == params
        assert any("second" in group.name for group in search.result.study.groups)
    assert read_recipe(gated_again.result.models[2]).model["use"] == "acme-net"
    assert autoprune.load_pruned(int8_again.result.models[2], trust=True).first.weight.dtype == torch.int8
