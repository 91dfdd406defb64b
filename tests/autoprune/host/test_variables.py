"""Options that the search chooses: where they are allowed, what they are called and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, model_validator

from autoprune.errors import SpecError, TrialError
from autoprune.host.binding import bind, load_spec
from autoprune.host.components import Components
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Choice, Range, Scorer, Transform
from autoprune.spec import read_text

from ..spec.broken_specs import GOOD
from .toys import (
    L1,
    L2,
    BatchNormRecalibration,
    FineTune,
    LowRank,
    NoRecovery,
    Normalize,
    OneShot,
    Taylor,
    _Toy,
    toy_host,
)

HOST = toy_host()


@pytest.fixture
def components(tmp_path: Path) -> Any:
    """Binds the good spec with overrides."""
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD)

    def bound(*overrides: str, host: PluginHost = HOST) -> Components:
        return bind(load_spec(path, overrides=overrides, host=host), host)

    return bound


def refused(components: Any, *overrides: str, host: PluginHost = HOST) -> list[str]:
    """What is said to overrides, by path."""
    with pytest.raises(SpecError) as caught:
        components(*overrides, host=host)
    return [str(mistake).split(":1:1: ")[1] for mistake in caught.value.mistakes]


def test_without_open_options_there_is_nothing_to_make(components: Any) -> None:
    bound = components()
    assert bound.knobs == ()
    (scorer,) = bound.scorers
    assert scorer.make({}) is scorer.make({"scorer.batches": 3.0}) is scorer.component


def test_a_choice_of_words(components: Any) -> None:
    (scorer,) = components("scorer={use: l2, weights: {choose: [fan-out, fan-in]}}").scorers
    assert scorer.knobs == (Choice("scorer.weights", ("fan-out", "fan-in")),)
    assert scorer.component == scorer.make({}) == L2(weights="fan-out")
    assert scorer.make({"scorer.weights": "fan-in", "strategy.else": 4}) == L2(weights="fan-in")


def test_a_choice_of_numbers_keeps_their_kind(components: Any) -> None:
    (scorer,) = components("scorer={use: taylor, batches: {choose: [8, 4]}}").scorers
    assert scorer.knobs == (Choice("scorer.batches", ("8", "4")),)
    made = scorer.make({"scorer.batches": "4"})
    assert made == Taylor(batches=4)
    assert isinstance(made.batches, int)


def test_a_range_of_numbers_in_a_nested_component(components: Any) -> None:
    recover = "{use: fine-tune, epochs: {low: 1, high: 4}, lr: {low: 1e-4, high: 1e-1, log: true}}"
    (strategy,) = components(f"strategy={{use: one-shot, recover: {recover}}}").strategies
    assert strategy.knobs == (
        Range("strategy.recover.epochs", 1.0, 4.0),
        Range("strategy.recover.lr", 1e-4, 1e-1, log=True),
    )
    assert strategy.component == OneShot(recover=(FineTune(epochs=1, lr=1e-4),))
    assert strategy.make({"strategy.recover.lr": 0.05}) == OneShot(recover=(FineTune(epochs=1, lr=0.05),))


def test_a_range_of_whole_numbers(components: Any) -> None:
    (scorer,) = components("scorer={use: taylor, batches: {low: 2, high: 8}}").scorers
    assert scorer.knobs == (Range("scorer.batches", 2.0, 8.0, whole=True),)
    made = scorer.make({"scorer.batches": 5.0})
    assert made == Taylor(batches=5)
    assert isinstance(made.batches, int)


def test_numbers_tell_several_apart(components: Any) -> None:
    recovers = "[{use: bn-recalibration, samples: {choose: [2, 4]}}, {use: fine-tune, epochs: {low: 1, high: 2}}]"
    bound = components(
        f"strategy=[{{use: one-shot}}, {{use: one-shot, recover: {recovers}}}]",
        "scorer=[{use: l2, weights: {choose: [fan-in, fan-out]}}]",
        "transforms=[{use: low-rank, method: {choose: [svd, asvd]}}]",
    )
    assert [knob.name for knob in bound.knobs] == [
        "scorer.weights",
        "strategy.1.recover.0.samples",
        "strategy.1.recover.1.epochs",
        "transforms.method",
    ]
    second = bound.strategies[1]
    assert second.component == OneShot(recover=(BatchNormRecalibration(samples=2), FineTune(epochs=1)))
    chosen = second.make({"strategy.1.recover.0.samples": "4", "strategy.1.recover.1.epochs": 1.5})
    assert chosen == OneShot(recover=(BatchNormRecalibration(samples=4), FineTune(epochs=1.5)))
    assert bound.strategies[0].knobs == ()


def test_a_choice_of_nested_components_with_options_open_inside(components: Any) -> None:
    ways = "[{use: none}, {use: fine-tune, lr: {low: 0.1, high: 0.2}}, [{use: bn-recalibration}, {use: fine-tune}]]"
    (strategy,) = components(f"strategy={{use: one-shot, recover: {{choose: {ways}}}}}").strategies
    assert strategy.knobs == (
        Choice("strategy.recover", ("none", "fine-tune", "bn-recalibration + fine-tune")),
        Range("strategy.recover.1.lr", 0.1, 0.2),
    )
    assert strategy.component == OneShot(recover=(NoRecovery(),))
    assert strategy.make({"strategy.recover": "fine-tune", "strategy.recover.1.lr": 0.15}) == OneShot(
        recover=(FineTune(lr=0.15),)
    )
    both = strategy.make({"strategy.recover": "bn-recalibration + fine-tune", "strategy.recover.1.lr": 0.15})
    assert both == OneShot(recover=(BatchNormRecalibration(), FineTune()))


def test_one_of_several_in_a_row_may_be_chosen(components: Any) -> None:
    ways = "[{use: bn-recalibration}, {choose: [{use: fine-tune}, {use: none}]}]"
    (strategy,) = components(f"strategy={{use: one-shot, recover: {ways}}}").strategies
    assert strategy.knobs == (Choice("strategy.recover.1", ("fine-tune", "none")),)
    assert strategy.make({"strategy.recover.1": "none"}).recover == (BatchNormRecalibration(), NoRecovery())


def test_options_tell_alternatives_of_one_name_apart(components: Any) -> None:
    ways = "[{use: fine-tune}, {use: fine-tune, epochs: 2, lr: 0.5}, {use: none}]"
    (strategy,) = components(f"strategy={{use: one-shot, recover: {{choose: {ways}}}}}").strategies
    assert strategy.knobs[0].options == ("fine-tune", "fine-tune(epochs=2, lr=0.5)", "none")


@pytest.mark.parametrize(
    ("written", "several", "chosen"),
    [
        ("{use: l1}", 1, False),
        ("[{use: l1}, {use: taylor}]", 2, False),
        ("{choose: [{use: l1}, {use: taylor}]}", 2, True),
    ],
)
def test_how_scorers_stand_there(written: str, several: int, chosen: bool, components: Any) -> None:
    bound = components(f"scorer={written}")
    assert bound.scorers[0].component == L1()
    assert (len(bound.scorers), bound.chooses_scorer) == (several, chosen)


def test_options_inside_a_choice_of_scorers_and_strategies(components: Any) -> None:
    bound = components(
        "scorer={choose: [{use: l1}, {use: taylor, batches: {low: 1, high: 2}}]}",
        "strategy={choose: [{use: one-shot, recover: {use: fine-tune, lr: {choose: [1, 2]}}}, {use: one-shot}]}",
    )
    assert [knob.name for knob in bound.knobs] == ["scorer.1.batches", "strategy.0.recover.lr"]
    assert refused(components, "scorer={choose: [{use: l1}, {use: taylor, batches: {low: 0, high: 2}}]}") == [
        "scorer.choose.1.batches.low: must be at least 1, not 0"
    ]


def test_mappings_that_take_such_keys_keep_them(components: Any) -> None:
    bound = components(
        "transforms=[{use: low-rank, layers: {low: 0.5, choose: 1}}]",
        "model={use: factory, target: a:b, arguments: {low: 1, high: 2}}",
    )
    assert bound.transforms[0].component == LowRank(layers={"low": 0.5, "choose": 1})
    assert bound.model.arguments == {"low": 1, "high": 2}


def test_a_choice_of_mappings(components: Any) -> None:
    class Wide(_Toy, Transform):
        name = "wide"
        normalize: Normalize = Normalize(mean=(0.0,), std=(1.0,))
        bounds: RatioLike | None = None

    host = toy_host(Wide)
    ways = "[{mean: [0], std: [1]}, {mean: [0.5], std: [2]}]"
    (wide,) = components(f"transforms=[{{use: wide, normalize: {{choose: {ways}}}}}]", host=host).transforms
    (knob,) = wide.knobs
    assert wide.make({knob.name: knob.options[1]}).normalize == Normalize(mean=(0.5,), std=(2.0,))
    bounds = components("transforms=[{use: wide, bounds: {low: 1, high: 2}}]", host=host).transforms[0]
    assert (bounds.knobs, bounds.component.bounds) == ((), RatioLike(low=1, high=2))


class RatioLike(Normalize):
    """Has the keys of a range of its own."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    low: float
    high: float


class Ordered(_Toy, Scorer):
    name = "ordered"
    first: int = Field(default=1, ge=0)
    last: int = 2

    @model_validator(mode="after")
    def _ordered(self) -> Any:
        if self.first > self.last:
            raise ValueError("first is above last")
        return self


def test_checks_of_the_whole_component_are_told_at_the_alternative_that_breaks_them(components: Any) -> None:
    host = toy_host(Ordered)
    scorer = "scorer={use: ordered, first: {choose: [0, 1, 5]}}"
    assert refused(components, scorer, host=host) == ["scorer.first.choose.2: first is above last"]
    # What is wrong already with the usual options is told once, where it stands.
    assert refused(components, "scorer={use: ordered, last: -3, first: {choose: [0, 1]}}", host=host) == [
        "scorer: first is above last"
    ]


def test_what_does_not_go_together_fails_the_trial_that_asks_for_it(components: Any) -> None:
    host = toy_host(Ordered)
    (scorer,) = components("scorer={use: ordered, first: {low: 0, high: 5}, last: {choose: [9, 2]}}", host=host).scorers
    assert scorer.make({"scorer.first": 2.0, "scorer.last": "2"}) == Ordered(first=2, last=2)
    with pytest.raises(TrialError, match=r"scorer ordered does not take what was chosen together: .*is above last"):
        scorer.make({"scorer.first": 3.0, "scorer.last": "2"})


def test_every_alternative_is_checked_beside_other_mistakes(components: Any) -> None:
    recover = "{use: fine-tune, epochs: 0, lr: {choose: [0.1, -1, fast]}}"
    assert sorted(refused(components, f"strategy={{use: one-shot, recover: {recover}}}")) == [
        "strategy.recover.epochs: must be above 0, not 0",
        "strategy.recover.lr.choose.1: must be above 0, not -1",
        "strategy.recover.lr.choose.2: must be a number, not 'fast'",
    ]


@pytest.mark.parametrize(
    ("override", "at"),
    [
        ("task.label_smoothing={low: 0, high: 1}", "task.label_smoothing: options of the task"),
        ("model={use: digits-cnn, width: {choose: [4, 8]}}", "model.width: options of the model"),
        ("data={use: parquet, path: {choose: [a, b]}}", "data.path: options of the data"),
        ("evaluators.2.steps={low: 1, high: 3}", "evaluators.2.steps: options of the evaluator"),
        ("search.sampler.population_size={choose: [3, 4]}", "search.sampler.population_size: options of the sampler"),
        ("exporters=[{use: onnx, opset: {choose: [17, 18]}}]", "exporters.0.opset: options of the exporter"),
        ("observers=[{use: csv, file: {choose: [a, b]}}]", "observers.0.file: options of the observer"),
    ],
)
def test_what_trials_are_compared_by_is_not_chosen(override: str, at: str, components: Any) -> None:
    overrides = ["task={use: classification}", override] if override.startswith("task") else [override]
    (line,) = refused(components, *overrides)
    assert line == f"{at} are not for the search to choose: its trials could not be compared; write one value"


def test_places_are_those_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("samples: 64}}", "samples: {choose: [4, 1]}}}", 1)
    (tmp_path / "spec.yaml").write_text(text)
    assert read_text(text)[0].data is not None
    with pytest.raises(SpecError, match=r"spec\.yaml:6:82: strategy\.recover\.samples\.choose\.1: must be at least 2"):
        load_spec(tmp_path / "spec.yaml", host=HOST)
