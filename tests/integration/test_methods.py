"""Every method that is shipped, in searches with two workers: saved, and opened in a new process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import autoprune
from autoprune.host.plugins import PluginHost

from .witnesses import PLUGINS, Watched, check_saved_models

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_workers")]
TRAINING = {"epochs": 0.5, "batch_size": 64}
STRATEGIES: list[dict[str, Any]] = [
    {
        "use": "one-shot",
        "recover": [
            {"use": "bn-recalibration", "samples": 128},
            {"use": "distill", **TRAINING, "lr": {"low": 0.001, "high": 0.1, "log": True}},
        ],
    },
    {"use": "iterative", "rounds": 2, "recover": {"use": "fine-tune", **TRAINING}},
    {"use": "gradual", "cuts": 3, "epochs": 1},
    {"use": "pre-prune", "epochs": 1},
    {"use": "sparse-training", "epochs": 1, "strength": 0.01, "recover": {"use": "bn-recalibration"}},
]


def searched(folder: Path, spec: Mapping[str, Any]) -> Watched:
    """A search for the tiny CNN on the digits, by two workers, every model of which is on the front."""
    witnesses, host = folder / "witnesses", PluginHost()
    named = {
        "plugins": [str(PLUGINS / name) for name in ("tiny.py", "witness.py", "in_turn.py")],
        "model": {"use": "tiny-cnn"},
        "data": {"use": "digits", "normalize": {"mean": [0.3], "std": [0.4]}},
        "evaluators": [{"use": "params"}, {"use": "loss"}, {"use": "witness", "folder": str(witnesses)}],
        "objectives": {"loss": "minimize", "params": "minimize", "witness": "maximize", "mirror": "maximize"},
        "tracking": {"enabled": False},
        "device": "cpu",
        "output": "study",
    } | dict(spec)
    made = autoprune.spec_from_mapping(named, folder=folder, host=host)
    return Watched(autoprune.search(made, host=host), witnesses)


@pytest.fixture(scope="module")
def strategies(quick_workers: str, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """All strategies in turn, one of two scorers for all groups in turn, a learning rate from a range."""
    return searched(
        tmp_path_factory.mktemp("strategies"),
        {
            "name": "strategies",
            "scorer": {"choose": [{"use": "l1"}, {"use": "taylor", "batches": 2}]},
            "strategy": STRATEGIES,
            "search": {"sampler": {"use": "in-turn"}, "trials": 11, "workers": 2},
        },
    )


@pytest.fixture(scope="module")
def knobs(quick_workers: str, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """The default sampler with ratios, ranks, a learning rate, a choice of an option and of the scorer."""
    fine_tune = {"use": "fine-tune", **TRAINING, "lr": {"low": 1e-3, "high": 1e-1, "log": True}}
    return searched(
        tmp_path_factory.mktemp("knobs"),
        {
            "name": "knobs",
            "scorer": {"choose": [{"use": "l1"}, {"use": "l2", "weights": {"choose": ["fan-in", "fan-out"]}}]},
            "strategy": {"use": "one-shot", "recover": fine_tune | {"optimizer": {"choose": ["sgd", "adamw"]}}},
            "transforms": [{"use": "low-rank", "layers": ["wide"]}],
            "search": {"trials": 7, "ladder": 1, "workers": 2},
        },
    )


def test_every_trial_came_through(strategies: Watched, knobs: Watched) -> None:
    for search, count in ((strategies, 11), (knobs, 7)):
        trials = search.result.outcome.trials
        assert [trial.state for trial in trials] == ["complete"] * count, [trial.reason for trial in trials]
        assert len(search.result.models) >= count - 1  # two trials may be the same cut


def test_saved_models_say_the_same_in_a_new_process(strategies: Watched, knobs: Watched, tmp_path: Path) -> None:
    check_saved_models(strategies, knobs, scratch=tmp_path)


def test_every_strategy_and_both_scorers_were_tried(strategies: Watched) -> None:
    trials = strategies.result.outcome.trials[1:]
    assert {trial.strategy for trial in trials} == {each["use"] for each in STRATEGIES}
    assert {trial.knobs["scorer"] for trial in trials} == {"l1", "taylor"}
    for trial in trials:
        assert set(trial.scorers.values()) <= {trial.knobs["scorer"]}
    rates = {trial.knobs["strategy.0.recover.1.lr"] for trial in trials if trial.strategy == "one-shot"}
    assert len(rates) >= 2
    assert all(0.001 <= rate <= 0.1 for rate in rates)


def test_what_all_trials_share_is_trained_once(strategies: Watched) -> None:
    sparse = [trial for trial in strategies.result.outcome.trials if trial.strategy == "sparse-training"]
    assert len(sparse) >= 2
    assert len(list((strategies.result.study.folder / "once").glob("*.safetensors"))) == 1


def test_ranks_are_chosen_counted_and_saved(knobs: Watched) -> None:
    trials = knobs.result.outcome.trials
    thinned = 0
    for number, folder in knobs.result.models.items():
        network = autoprune.load_pruned(folder, trust=True)
        assert trials[number].metrics["params"].value == sum(p.numel() for p in network.parameters())
        thin = type(network.wide).__name__ == "Sequential"
        thinned += thin
        assert not thin or trials[number].knobs["low-rank.wide"] < 1
    assert thinned >= 1


def test_the_default_sampler_varies_every_knob(knobs: Watched) -> None:
    sampled = [trial for trial in knobs.result.outcome.trials if trial.origin == "sampler"]
    names = {
        "scorer",
        "scorer.1.weights",
        "low-rank.wide",
        "strategy.recover.lr",
        "strategy.recover.optimizer",
    }
    for trial in sampled:
        assert trial.knobs.keys() == names
        assert 1e-3 <= trial.knobs["strategy.recover.lr"] <= 1e-1
    for name in ("low-rank.wide", "strategy.recover.lr"):
        assert len({trial.knobs[name] for trial in sampled}) > 1
