"""What would go wrong in silence later, refused when a plugin is registered or a spec is read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from pydantic import ConfigDict, Field, PlainSerializer, field_validator

from autoprune.errors import SpecError
from autoprune.host.binding import bind, load_spec
from autoprune.host.metrics import check_metrics
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Cost, Evaluator, Metric, Recovery, Scorer

from ..spec.broken_specs import GOOD
from .toys import ToyPlugin, _Toy, toy_host


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD)
    return path


def lines(path: Path, *overrides: str, host: PluginHost) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides=overrides, host=host)
    return [str(mistake).split(":1:1: ")[-1] for mistake in caught.value.mistakes]


class TestOptionsWithoutAJsonForm:
    """A study hands its components to workers, and keeps them for `resume`, as JSON."""

    class Odd(_Toy, Recovery):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        name = "odd"
        size: int = 1
        thing: slice = slice(3)

    class Rounded(_Toy, Scorer):
        name = "rounded"
        power: Annotated[float, PlainSerializer(round)] = 1.0

    class Grown(_Toy, Scorer):
        name = "grown"
        power: int = Field(default=1, ge=1)

        @field_validator("power")
        @classmethod
        def _more(cls, power: int) -> int:
            return power + 1

    class Late(_Toy, Scorer):
        name = "late"
        lr: float = Field(default=0.1, alias="learning-rate")

    def test_what_cannot_be_written_at_all(self, spec_file: Path) -> None:
        host = toy_host(self.Odd)
        (line,) = lines(spec_file, "strategy.recover={use: odd}", host=host)
        assert line.startswith("strategy.recover.thing: has no JSON form, in which a study keeps it")
        assert "slice" in line
        load_spec(spec_file, host=host)  # does no harm where it is not named

    def test_what_comes_back_as_something_else(self, spec_file: Path) -> None:
        host = toy_host(self.Rounded, self.Grown)
        assert lines(spec_file, "scorer={use: rounded, power: 1.5}", host=host) == [
            "scorer.power: does not come back from its JSON form, in which a study keeps it and hands it to workers: 2"
        ]
        load_spec(spec_file, overrides=["scorer={use: rounded, power: 2}"], host=host)
        found = lines(spec_file, "scorer={use: grown, power: {choose: [1, 4]}}", host=host)
        lost = "does not come back from its JSON form"
        assert [line.startswith(f"scorer.power.choose.{i}: {lost}") for i, line in enumerate(found)] == [True, True]

    def test_what_is_not_taken_back(self, spec_file: Path) -> None:
        (line,) = lines(spec_file, "scorer={use: late, learning-rate: 0.2}", host=toy_host(self.Late))
        assert "does not come back from its JSON form" in line

    def test_no_component_of_the_toys_is_concerned(self, spec_file: Path) -> None:
        load_spec(spec_file, host=toy_host())


class PerClass(_Toy, Evaluator):
    """Makes a metric per class, and so has to see the data; with ``classes``, it can tell before."""

    name = "per-class"
    classes: int | None = None

    def declares(self, data: Any) -> tuple[Metric, ...]:
        classes = self.classes or (0 if data is None else data.classes)
        return tuple(Metric(f"recall_{i}", "fraction", "maximize", Cost.ATTACK) for i in range(classes))


HOST = toy_host(PerClass)
THREE: Any = SimpleNamespace(classes=3)


class TestMetricsThatHangOnTheData:
    def test_anything_goes_until_the_data_is_known(self, spec_file: Path) -> None:
        overrides = [
            "evaluators.1={use: per-class}",
            "objectives={recall_2: maximize}",
            "constraints={recall_9: '>= 0'}",
        ]
        spec = load_spec(spec_file, overrides=overrides, host=HOST)
        components = bind(spec, HOST)
        assert set(components.metrics) == {"accuracy", "robust_accuracy"}
        assert [evaluator.name for evaluator in components.evaluators] == ["accuracy", "per-class", "pgd"]
        (mistake,) = check_metrics(spec, components, THREE)
        assert str(mistake) == (
            f"--set {overrides[2]}:1:1: constraints.recall_9: no evaluator makes this metric; did you mean 'recall_2'?"
        )

    def test_then_all_is_checked(self, spec_file: Path) -> None:
        spec = load_spec(
            spec_file, overrides=["evaluators.0={use: per-class}", "objectives={recall_2: maximize}"], host=HOST
        )
        (mistake,) = check_metrics(spec, bind(spec, HOST), THREE)  # what stands in the file at its place in it
        assert (mistake.line, mistake.column, mistake.path) == (12, 15, ("constraints", "accuracy"))
        spec = load_spec(spec_file, host=HOST)
        assert check_metrics(spec, bind(spec, HOST), THREE) == []

    def test_twice_the_same_is_found_then_too(self, spec_file: Path) -> None:
        overrides = [
            "evaluators.1={use: per-class}",
            "evaluators.2={use: per-class}",
            "objectives={recall_0: maximize}",
        ]
        spec = load_spec(spec_file, overrides=overrides, host=HOST)
        (mistake,) = check_metrics(spec, bind(spec, HOST), THREE)
        assert mistake.path == ("evaluators", 2)
        assert "makes recall_0, recall_1, recall_2, as evaluators.1 does; give one of them a label" in str(mistake)
        spec = load_spec(spec_file, overrides=[*overrides, "evaluators.2.label=again"], host=HOST)
        assert check_metrics(spec, bind(spec, HOST), THREE) == []

    def test_what_options_tell_is_checked_at_once(self, spec_file: Path) -> None:
        overrides = ["evaluators.1={use: per-class, classes: 2}", "objectives={recall_2: maximize}"]
        (line,) = lines(spec_file, *overrides, host=HOST)
        assert line.startswith("objectives.recall_2: no evaluator makes this metric; did you mean 'recall_")


class TestMetricsThatAreWrong:
    def test_an_evaluator_without_any(self) -> None:
        class Blind(_Toy, Evaluator):
            name = "blind"

        host = PluginHost([])
        host.register(ToyPlugin(Blind), name="blind")
        assert "Blind has no metrics; give it metrics: ClassVar[tuple[Metric, ...]], or declares()" in str(
            host.plugins[0].error
        )

    def test_a_misspelt_direction_while_the_plugin_is_loaded(self) -> None:
        class Plugin(ToyPlugin):
            def __getattribute__(self, name: str) -> Any:
                if name == "_components":
                    Metric("recall", "", "maximise", Cost.FORWARD)  # type: ignore[arg-type]
                return super().__getattribute__(name)

        host = PluginHost([])
        host.register(Plugin(), name="vague")
        assert host.plugins[0].error == ("ValueError: metric recall: direction is minimize or maximize, not 'maximise'")

    def test_a_misspelt_direction_that_an_option_leads_to(self, spec_file: Path) -> None:
        class Vague(_Toy, Evaluator):
            name = "vague"
            way: str = "maximize"

            def declares(self, data: Any) -> tuple[Metric, ...]:
                return (Metric("recall", "", self.way, Cost.FORWARD),)  # type: ignore[arg-type]

        override = "evaluators.1={use: vague, way: up}"
        (line, *_) = lines(spec_file, override, "objectives={accuracy: maximize}", host=toy_host(Vague))
        assert line == (
            "evaluators.1: vague fails on these options: ValueError: metric recall: direction is minimize or maximize,"
            " not 'up'"
        )
