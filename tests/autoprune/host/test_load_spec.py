"""From a file to a checked spec: every mistake at once, with stand-ins for the built-in components."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprune.errors import SpecError
from autoprune.host.binding import bind, load_spec, spec_from_mapping, spec_hash
from autoprune.host.plugins import PluginHost
from autoprune.host.variables import Variable
from autoprune.plugin import Evaluator, Metric, Scorer
from autoprune.plugin.results import StudyInfo
from autoprune.plugin.values import Cost
from autoprune.spec import Spec

from ..spec.broken_specs import BROKEN, GOOD, Broken
from .toys import (
    L1,
    L2,
    Classification,
    Fgsm,
    FineTune,
    Local,
    Nsga2,
    OneShot,
    Sensitivity,
    Taylor,
    ToyPlugin,
    Tpe,
    _Toy,
    toy_host,
)

HOST = toy_host()


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """A file with the good spec."""
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD)
    return path


def lines(path: Path, *overrides: str, host: PluginHost = HOST) -> list[str]:
    """What is wrong with a spec's file, without the folder."""
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides=overrides, host=host)
    assert str(caught.value).splitlines() == [str(mistake) for mistake in caught.value.mistakes]
    return [str(mistake).replace(f"{path.parent}/", "") for mistake in caught.value.mistakes]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.id)
def test_every_mistake_is_one_line_at_its_place(broken: Broken, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(broken.text)
    found = lines(path)
    assert len(found) == len(broken.lines), found
    for line, (row, column, message) in zip(found, broken.lines, strict=True):
        assert line.startswith(f"spec.yaml:{row}:{column}: "), line
        assert message in line


def test_the_table_is_large_and_its_names_differ() -> None:
    assert len({broken.id for broken in BROKEN}) == len(BROKEN) >= 40


def test_a_good_spec_becomes_its_components(spec_file: Path) -> None:
    spec = load_spec(spec_file, host=HOST)
    assert (spec.name, spec.search.trials, spec.document.folder) == ("digits", 20, spec_file.parent)
    components = bind(spec, HOST)
    assert (components.model.name, components.data.name, components.sampler) == ("digits-cnn", "digits", Nsga2())
    assert (components.task, components.executor) == (Classification(), Local())
    assert components.scorers == (Variable(Taylor(batches=4)),)
    assert [strategy.component.reference() for strategy in components.strategies] == [
        {"use": "one-shot", "recover": [{"use": "bn-recalibration", "samples": 64}]}
    ]
    assert (components.transforms, components.exporters, components.observers) == ((), (), ())
    assert [evaluator.name for evaluator in components.evaluators] == ["latency", "accuracy", "pgd"]
    assert set(components.metrics) == {"accuracy", "latency_ms", "latency_ratio", "robust_accuracy"}
    assert components.metrics["latency_ms"].unit == "ms"


def test_what_is_left_out_comes_from_defaults(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "name: x\nmodel: {use: digits-cnn}\ndata: {use: digits}\n"
        "evaluators: [{use: macs}]\nobjectives: {macs: minimize}\n"
    )
    components = bind(load_spec(path, host=HOST), HOST)
    assert components.scorers == (Variable(L1()), Variable(L2(weights="fan-out")), Variable(Taylor()))
    assert [strategy.component.name for strategy in components.strategies] == ["one-shot"]
    assert components.sampler == Sensitivity()


def test_lists_of_which_the_search_chooses(spec_file: Path) -> None:
    recover = "[{use: one-shot}, {use: one-shot, recover: {use: fine-tune, epochs: 2}}]"
    spec = load_spec(spec_file, overrides=["scorer=[{use: l1}, {use: taylor}]", f"strategy={recover}"], host=HOST)
    components = bind(spec, HOST)
    assert components.scorers == (Variable(L1()), Variable(Taylor()))
    assert components.strategies[1].component == OneShot(recover=(FineTune(epochs=2),))
    assert not components.chooses_scorer


def test_default_components_that_no_plugin_brings_are_told_of(tmp_path: Path, spec_file: Path) -> None:
    found = lines(spec_file, host=PluginHost([]))
    assert [line.split(": no ")[0] for line in found] == [
        "spec.yaml:1:1: task.use",
        "spec.yaml:2:9: model.use",
        "spec.yaml:3:8: data.use",
        "spec.yaml:5:10: scorer.use",
        "spec.yaml:6:12: strategy.use",
        "spec.yaml:8:6: evaluators.0.use",
        "spec.yaml:9:6: evaluators.1.use",
        "spec.yaml:10:6: evaluators.2.use",
        "spec.yaml:11:14: objectives.accuracy",
        "spec.yaml:11:34: objectives.latency_ms",
        "spec.yaml:11:56: objectives.robust_accuracy",
        "spec.yaml:12:15: constraints.accuracy",
        "spec.yaml:13:1: search.executor.use",
        "spec.yaml:13:20: search.sampler.use",
    ]


def test_overrides_are_checked_and_told_of_by_their_own_text(spec_file: Path) -> None:
    assert load_spec(spec_file, overrides=["search.trials=3", "scorer.batches=9"], host=HOST).search.trials == 3
    overrides = ["search.trials=no", "evaluators.2.steps=0", 'search_space.groups."stage1.*".high=2', "bad"]
    assert [line.split(":1:1: ")[0] for line in lines(spec_file, *overrides)] == [
        f"--set {overrides[i]}" for i in (3, 2, 0, 1)
    ]
    assert "evaluators.2.steps: must be at least 1, not 0" in lines(spec_file, *overrides)[3]


def test_later_checks_find_places_too(spec_file: Path) -> None:
    """`resolve` refuses groups that match no layer, by the document."""
    document = load_spec(spec_file, overrides=["search_space.groups.head={high: 0.1}"], host=HOST).document
    at = ("search_space", "groups")
    assert str(document.mistake((*at, "stage1.*"), "x")).endswith('spec.yaml:4:55: search_space.groups."stage1.*": x')
    assert document.mistake((*at, "head"), "x").file == "--set search_space.groups.head={high: 0.1}"


def test_labels_tell_two_evaluators_apart(spec_file: Path) -> None:
    fgsm = "{use: fgsm, epsilon: 0.1, label: fgsm}"
    overrides = [f"evaluators.1={fgsm}", "objectives={robust_accuracy: maximize, robust_accuracy_fgsm: maximize}"]
    components = bind(load_spec(spec_file, overrides=overrides, host=HOST), HOST)
    assert {"robust_accuracy", "robust_accuracy_fgsm"} < set(components.metrics)
    assert Fgsm(epsilon=0.1, label="fgsm") in components.evaluators


def test_an_evaluator_with_mistakes_still_makes_its_metrics(spec_file: Path) -> None:
    assert len(lines(spec_file, "evaluators.1.batch_size=0")) == 1
    assert (
        len(lines(spec_file, "evaluators.2={use: pgd, label: strong}", "objectives={robust_accuracy_strong: maximize}"))
        == 1
    )


def test_an_unknown_evaluator_may_be_meant_to_make_a_metric(spec_file: Path) -> None:
    assert len(lines(spec_file, "evaluators.1.use=latancy")) == 1
    found = lines(spec_file, "evaluators.1.use=latancy", "objectives={latency_ms: minimize, speed: maximize}")
    assert ["no evaluator makes this metric" in line for line in found] == [False, True]


def test_a_plugin_whose_own_check_fails_is_told_of(spec_file: Path) -> None:
    from pydantic import model_validator

    class Fragile(_Toy, Scorer):
        name = "fragile"
        batches: int = 1

        @model_validator(mode="after")
        def _divides(self) -> Any:
            raise ZeroDivisionError(f"{self.batches} by 0")

    class Picky(_Toy, Scorer):
        name = "picky"
        low: int = 1
        high: int = 2

        @model_validator(mode="after")
        def _ordered(self) -> Any:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    class Vague(_Toy, Evaluator):
        name = "vague"
        metrics = (Metric("recall", "fraction", "maximize", Cost.FORWARD),)

        def declares(self, data: Any) -> tuple[Metric, ...]:
            raise LookupError("which?")

    host = toy_host(Fragile, Picky, Vague)
    assert lines(spec_file, "evaluators.1={use: vague}", "objectives={recall: maximize}", host=host) == [
        "--set evaluators.1={use: vague}:1:1: evaluators.1: vague fails on these options: LookupError: which?"
    ]
    assert lines(spec_file, "scorer={use: fragile}", host=host) == [
        "--set scorer={use: fragile}:1:1: scorer: fragile fails on these options: ZeroDivisionError: 1 by 0"
    ]
    assert lines(spec_file, "scorer={use: picky, low: 3}", host=host) == [
        "--set scorer={use: picky, low: 3}:1:1: scorer: low is above high"
    ]


def test_an_unknown_component_mentions_the_plugins_that_are_left_out(spec_file: Path) -> None:
    host = toy_host()
    host.register(ToyPlugin(object), name="better", distribution="better-metrics", version="1.2")
    (line,) = lines(spec_file, "scorer={use: hessian}", host=host)
    assert "no scorer is called 'hessian'; known: l1, l2, taylor; plugin better (better-metrics 1.2) is" in line
    assert "is no component class" in line
    # Nor can be told what its evaluators would have made.
    (line,) = lines(spec_file, "evaluators.1={use: better}", "objectives={speed: maximize}", host=host)
    assert "evaluators.1.use: no evaluator is called 'better'" in line


class TestMappings:
    def test_means_the_same_as_a_file(self, spec_file: Path) -> None:
        from_file = load_spec(spec_file, host=HOST)
        spec = spec_from_mapping(from_file.document.data, folder=spec_file.parent, host=HOST)
        assert spec == from_file
        assert spec_hash(spec) == spec_hash(from_file)
        spec_file.write_text(spec.document.text)
        assert load_spec(spec_file, host=HOST) == spec

    def test_takes_python_values_and_no_placeholders(self, tmp_path: Path) -> None:
        mapping = {
            "name": "x",
            "model": {"use": "factory", "target": "m:f", "weights": Path("w.safetensors"), "arguments": {"a": "${B}"}},
            "data": {"use": "parquet", "path": Path("d"), "normalize": {"mean": (0.5,), "std": (0.25,)}},
            "evaluators": ({"use": "macs"},),
            "objectives": {"macs": "minimize"},
        }
        spec = spec_from_mapping(mapping, folder=tmp_path, host=HOST)
        assert spec.model["arguments"] == {"a": "${B}"}
        assert spec.document.folder == tmp_path
        components = bind(spec, HOST)
        assert components.data.reference()["normalize"] == {"mean": [0.5], "std": [0.25]}

    def test_tells_every_mistake(self) -> None:
        with pytest.raises(SpecError) as caught:
            spec_from_mapping({"name": "x", "scorer": {"use": "l9"}, "evaluators": []}, host=HOST)
        assert {mistake.path for mistake in caught.value.mistakes} == {
            ("model",),
            ("data",),
            ("scorer", "use"),
            ("evaluators",),
            ("objectives",),
        }

    def test_refuses_what_is_no_data(self) -> None:
        with pytest.raises(SpecError, match="holds what a spec cannot say"):
            spec_from_mapping({"name": object()}, host=HOST)


class TestBind:
    def test_a_spec_made_by_hand(self) -> None:
        spec = Spec(
            name="x",
            model={"use": "digits-cnn"},
            data={"use": "digits"},
            evaluators=[{"use": "macs"}],
            objectives={"macs": "minimize"},
            search={"sampler": {"use": "tpe"}},  # type: ignore[arg-type]
        )
        assert bind(spec, HOST).sampler == Tpe()

    def test_refuses_what_load_spec_would(self, spec_file: Path) -> None:
        spec = load_spec(spec_file, host=toy_host())
        with pytest.raises(SpecError, match=r"spec\.yaml:5:10: scorer\.use: no scorer is called 'taylor'"):
            bind(spec, PluginHost([]))


class TestHash:
    def test_layout_does_not_matter(self, spec_file: Path) -> None:
        first = spec_hash(load_spec(spec_file, host=HOST))
        text = GOOD.replace("search: {sampler: {use: nsga2}, trials: 20, timeout: 10m, seed: 0}\n", "")
        search = "search:\n  timeout: 600s\n  trials: 0x14\n  sampler: {use: nsga2}\n"
        text = f"# a note\n{search}{text}".replace("0.80", "0.8")
        spec_file.write_text(text.replace("{use: pgd, epsilon: 2/255", "{epsilon: 2/255, use: pgd"))
        assert spec_hash(load_spec(spec_file, host=HOST)) == first
        assert len(first) == 64

    def test_nor_whether_a_default_is_written(self, spec_file: Path) -> None:
        written = spec_hash(load_spec(spec_file, overrides=["search.sampler={use: sensitivity}"], host=HOST))
        spec_file.write_text(GOOD.replace("sampler: {use: nsga2}, ", ""))
        assert spec_hash(load_spec(spec_file, host=HOST)) == written

    @pytest.mark.parametrize(
        "override",
        ["search.seed=1", "scorer.batches=5", "objectives={latency_ms: minimize, accuracy: maximize}", "name=other"],
    )
    def test_content_does(self, spec_file: Path, override: str) -> None:
        assert spec_hash(load_spec(spec_file, overrides=[override], host=HOST)) != spec_hash(
            load_spec(spec_file, host=HOST)
        )

    def test_order_counts_where_it_has_a_meaning(self, spec_file: Path) -> None:
        def hash_of(key: str, *values: str) -> set[str]:
            return {spec_hash(load_spec(spec_file, overrides=[f"{key}={value}"], host=HOST)) for value in values}

        assert len(hash_of("search_space.groups", "{a: keep, '*': {}}", "{'*': {}, a: keep}")) == 2
        assert (
            len(
                hash_of(
                    "objectives",
                    "{accuracy: maximize, latency_ms: minimize}",
                    "{latency_ms: minimize, accuracy: maximize}",
                )
            )
            == 2
        )
        assert (
            len(
                hash_of(
                    "constraints", "{accuracy: '>= 1', latency_ms: '<= 1'}", "{latency_ms: '<= 1', accuracy: '>= 1'}"
                )
            )
            == 1
        )


def test_a_study_goes_to_json_and_back(spec_file: Path) -> None:
    spec = load_spec(spec_file, overrides=["search.timeout=1h30m"], host=HOST)
    study = StudyInfo(
        name="digits-1",
        folder=spec_file.parent,
        spec=spec,
        spec_text=spec.document.text,
        trials=20,
        objectives=dict(spec.objectives),
        constraints={name: str(bound) for name, bound in spec.constraints.items()},
        units={},
        costs=(),
        groups=(),
        environment={"spec_hash": spec_hash(spec)},
    )
    text = study.model_dump_json()
    assert json.loads(text)["spec"]["search"]["timeout"] == "1h30m"
    assert json.loads(text)["spec"]["constraints"] == {"accuracy": ">= 0.8"}
    again = StudyInfo.model_validate_json(text)
    assert again == study
    assert spec_hash(again.spec) == spec_hash(spec)


def test_an_evaluator_may_name_its_metrics_itself(spec_file: Path) -> None:
    class PerClass(_Toy, Evaluator):
        name = "per-class"
        metrics = (Metric("recall", "fraction", "maximize", Cost.FORWARD),)
        classes: int = 2

        def declares(self, data: Any) -> tuple[Metric, ...]:
            return tuple(Metric(f"recall_{i}", "fraction", "maximize", Cost.FORWARD) for i in range(self.classes))

    host = toy_host(PerClass)
    overrides = ["evaluators.1={use: per-class}", "objectives={recall_1: maximize}"]
    assert bind(load_spec(spec_file, overrides=overrides, host=host), host).metrics["recall_1"].unit == "fraction"
    (line,) = lines(spec_file, overrides[0], "objectives={recall_2: maximize}", host=host)
    assert "objectives.recall_2: no evaluator makes this metric; did you mean 'recall_" in line


@pytest.mark.slow
def test_checking_a_spec_loads_no_framework(tmp_path: Path) -> None:
    """With every installed plugin: the 2 s of torch, mlflow or optuna are not paid for a typing mistake."""
    (tmp_path / "broken.yaml").write_text(next(broken.text for broken in BROKEN if broken.id == "many-at-once"))
    script = """if True:
        import sys
        import autoprune
        from autoprune.host.plugins import PluginHost
        from autoprune.host.schema import json_schema
        try:
            autoprune.load_spec(sys.argv[1])
        except autoprune.SpecError as error:
            print(len(error.mistakes))
        json_schema(PluginHost())
        heavy = {"torch", "mlflow", "optuna", "pandas", "sklearn", "pyarrow", "matplotlib", "numpy"} & set(sys.modules)
        print(sorted(heavy))
    """
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "broken.yaml")], capture_output=True, text=True, check=True
    )
    mistakes, heavy = done.stdout.splitlines()
    assert int(mistakes) >= 10
    assert heavy == "[]"


PIECES = st.sampled_from(
    [*"{}[]:,&*!|>'\"%@`#-? \n\t~$\\é", "${", "}", "null", "true", ".inf", "1e999", "9" * 5000, "- "]
) | st.text(max_size=3)


OPEN = (
    GOOD.replace("{use: taylor, batches: 4}", "{choose: [{use: l1}, {use: taylor, batches: {low: 1, high: 4}}]}")
    .replace("samples: 64}}", "samples: {choose: [4, 8]}}}", 1)
    .replace("evaluators:", "transforms: [{use: low-rank, method: {choose: [svd, asvd]}}]\nevaluators:")
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.sampled_from([GOOD, OPEN]),
    edits=st.lists(st.tuples(st.integers(0, len(OPEN)), st.integers(0, 30), PIECES), max_size=4),
)
def test_no_edit_of_a_good_spec_raises_anything_but_a_spec_error(
    tmp_path: Path, text: str, edits: list[tuple[int, int, str]]
) -> None:
    for start, length, piece in edits:
        text = f"{text[:start]}{piece}{text[start + length :]}"
    path = tmp_path / "spec.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    mistakes, told, spec = (), "", None  # type: tuple[Mistake, ...], str, Spec | None
    try:
        spec = load_spec(path, host=HOST)
    except SpecError as error:
        mistakes, told = error.mistakes, str(error)
    assert (spec is None) == bool(mistakes)
    assert spec is not None or edits
    assert all(mistake.line >= 1 and mistake.column >= 1 for mistake in mistakes)
    assert len(told.splitlines()) == len(mistakes)
    if spec is not None:
        bind(spec, HOST)
        assert Spec.model_validate(spec.model_dump(mode="json")) == spec
