"""What a spec says of Python objects, and what is refused before anything is loaded."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import autoprune
from autoprune.api.handover import Handover
from autoprune.api.keywords import as_keywords, duration, spec_of
from autoprune.errors import PluginError, SpecError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Component, Cost, Data, Evaluator, Metric, Recovery, Sampler, Scorer, Split, Strategy, Task
from autoprune.spec import Spec
from autoprune.testing import toy_data

NET = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
LOADER = DataLoader(TensorDataset(torch.randn(6, 3), torch.arange(6) % 2), batch_size=2)


class Half(Evaluator):
    """Always a half."""

    name = "half"
    metrics = (Metric("half", "", "minimize", Cost.FORWARD),)
    of: float = 1.0

    def evaluate(self, model, ctx):
        return {"half": self.of / 2}


class Nothing(Recovery):
    """Does nothing, in its own way."""

    name = "nothing-at-all"

    def recover(self, pruned, ctx):
        pass


def f1(outputs, targets):
    return 0.5


class Distance:
    """A metric that is fed, as those of torchmetrics are."""

    higher_is_better = False

    def update(self, outputs, targets): ...

    def compute(self): ...

    def reset(self): ...


@pytest.fixture
def host() -> PluginHost:
    return PluginHost()


def said(host: PluginHost, spec: Any = None, **keys: Any) -> Spec:
    """The spec that these keywords make."""
    short = {key: keys.pop(key) for key in ("trials", "timeout", "seed", "workers", "sampler") if key in keys}
    handover = Handover(host)
    with as_keywords():
        checked = spec_of(spec, keys, short, host=host, handover=handover)
        handover.check(checked)
    return checked


def test_what_is_left_out_has_defaults(host: PluginHost) -> None:
    spec = said(host, model=NET, data={"train": LOADER})
    assert spec.name == "sequential"
    assert spec.model["use"] == spec.data["use"] == "live"
    assert spec.evaluators == [{"use": "accuracy"}, {"use": "macs"}]
    assert spec.objectives == {"accuracy": "maximize", "macs": "minimize"}
    spec = said(host, model=NET, data={"train": LOADER}, task="regression")
    assert spec.evaluators == [{"use": "loss"}, {"use": "macs"}]
    assert spec.objectives == {"loss": "minimize", "macs": "minimize"}
    spec = said(host, model="digits-cnn", data="digits", objectives={"macs": "minimize"})
    assert (spec.name, spec.objectives) == ("digits-cnn", {"macs": "minimize"})


def test_the_objects_are_the_hosts_and_no_copies(host: PluginHost) -> None:
    data = {"train": LOADER, "val": LOADER, "test": LOADER}
    said(host, model=NET, data=data, evaluators=[f1], objectives={"f1": "maximize"})
    assert host.objects == {"model": NET, "data": data, "metrics": {"f1": f1}}
    assert host.objects["model"] is NET
    said(host, model="digits-cnn", data="digits")
    assert host.objects == {"metrics": {}}, "of an earlier search nothing is left"


def test_names_components_and_classes_are_references(host: PluginHost) -> None:
    strategy, recovery, sampler = host(Strategy, "one-shot"), host(Recovery, "fine-tune"), host(Sampler, "nsga2")
    spec = said(
        host,
        model="digits-cnn",
        data=toy_data(),
        task=host(Task, "classification")(label_smoothing=0.1),
        scorer=["l1", host(Scorer, "l2"), {"use": "taylor", "batches": 2}],
        strategy=strategy(recover=[Nothing(), recovery(epochs=0.5)]),
        evaluators=["accuracy", Half, host(Evaluator, "macs")()],
        objectives={"half": "minimize", "macs": "minimize"},
        sampler=sampler,
        search_space=["channels", "2:4"],
        tracking={"enabled": False},
    )
    assert spec.task == {"use": "classification", "output": "", "label_smoothing": 0.1}
    assert [each["use"] for each in spec.scorer] == ["l1", "l2", "taylor"]
    assert [each["use"] for each in spec.strategy["recover"]] == ["nothing-at-all", "fine-tune"]
    assert [each["use"] for each in spec.evaluators] == ["accuracy", "half", "macs"]
    assert spec.search.sampler == {"use": "nsga2"}
    assert spec.search_space.use == ["channels", "2:4"]
    assert host(Evaluator, "half") is Half
    assert host(Recovery, "nothing-at-all") is Nothing
    assert isinstance(host.objects["data"], Data)


def test_components_stand_within_choices_and_options_too(host: PluginHost) -> None:
    one_shot = host(Strategy, "one-shot")
    spec = said(
        host,
        model="digits-cnn",
        data="digits",
        scorer={"choose": ["l1", host(Scorer, "taylor")]},
        strategy={"use": "one-shot", "recover": Nothing},
    )
    assert spec.model_dump()["scorer"]["choose"] == [{"use": "l1"}, {"use": "taylor"}]
    assert spec.strategy == {"use": "one-shot", "recover": {"use": "nothing-at-all"}}
    assert one_shot().reference()["use"] == "one-shot"


@pytest.mark.parametrize(
    ("given", "reference"),
    [
        (f1, {"use": "metric", "target": "live:f1", "direction": "maximize"}),
        (partial(f1), {"use": "metric", "target": "live:f1", "direction": "maximize"}),
        (
            {"target": f1, "resamples": 0, "called": "f1"},
            {"use": "metric", "target": "live:f1", "resamples": 0, "called": "f1", "direction": "maximize"},
        ),
    ],
)
def test_a_function_is_a_metric_whose_objective_tells_the_direction(
    given: Any, reference: dict[str, Any], host: PluginHost
) -> None:
    spec = said(host, model=NET, data={"train": LOADER}, evaluators=[given, "macs"], objectives={"f1": "maximize"})
    assert spec.evaluators[0] == reference


def test_bounds_and_metrics_themselves_tell_directions_too(host: PluginHost) -> None:
    evaluators = [f1, Distance(), "macs"]
    spec = said(
        host,
        model=NET,
        data={"train": LOADER},
        evaluators=evaluators,
        objectives={"macs": "minimize"},
        constraints={"f1": ">= 0.3"},
    )
    assert [each.get("direction") for each in spec.evaluators] == ["maximize", "minimize", None]
    assert host.objects["metrics"]["Distance"] is evaluators[1]


def test_options_of_the_data_stand_beside_its_splits(host: PluginHost) -> None:
    mean = torch.tensor([0.5, 0.25])
    spec = said(
        host,
        model=NET,
        data={
            "train": LOADER,
            "validation": LOADER,
            "test": 0.25,
            "normalize": {"mean": mean, "std": (1, 2)},
            "bounds": (0, 1),
            "targets": "y",
        },
    )
    assert spec.data == {
        "use": "live",
        "normalize": {"mean": [0.5, 0.25], "std": [1, 2]},
        "bounds": [0, 1],
        "targets": "y",
        "test": 0.25,
    }
    assert host.objects["data"] == {"train": LOADER, "validation": LOADER}


def test_paths_and_import_paths_are_models_and_data(host: PluginHost, tmp_path: Path) -> None:
    for file in ("saved/recipe.json", "hub/config.json", "net.pt2", "arrays.npz"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    handover = Handover(host)
    assert handover.model(tmp_path / "saved") == {"use": "pruned", "path": str(tmp_path / "saved")}
    assert handover.model(str(tmp_path / "hub")) == {"use": "huggingface", "path": str(tmp_path / "hub")}
    assert handover.model(tmp_path / "net.pt2") == {"use": "exported", "path": str(tmp_path / "net.pt2")}
    assert handover.model("mymodels:resnet20") == {"use": "factory", "target": "mymodels:resnet20"}
    assert handover.data(tmp_path / "arrays.npz") == {"use": "npz", "path": str(tmp_path / "arrays.npz")}
    assert handover.data("mydata:splits") == {"use": "factory", "target": "mydata:splits"}
    handover.check()


BASE = """\
name: base
model: {use: digits-cnn}
data: {use: digits}
evaluators: [{use: accuracy}, {use: params}]
objectives: {accuracy: maximize, params: minimize}
search: {trials: 30, ladder: 2}
"""


@pytest.mark.parametrize("kind", ["file", "spec", "mapping"])
def test_keywords_lie_over_a_spec(kind: str, host: PluginHost, tmp_path: Path) -> None:
    file = tmp_path / "base.yaml"
    file.write_text(BASE)
    loaded = autoprune.load_spec(file)
    spec = {"file": file, "spec": loaded, "mapping": loaded.model_dump(mode="json")}[kind]
    assert said(host, spec) == loaded
    over = said(host, spec, model=NET, trials=8, timeout="5m", name="other${x}".replace("${x}", ""), device="cpu")
    assert over.model == {"use": "live", "weights": over.model["weights"]}
    assert (over.name, over.device, over.search.trials, over.search.ladder) == ("other", "cpu", 8, 2)
    assert over.search.timeout == timedelta(minutes=5)
    assert over.objectives == loaded.objectives
    whole = said(host, spec, search={"ladder": 3}, seed=4)
    assert (whole.search.ladder, whole.search.seed, whole.search.trials) == (3, 4, 100)
    assert said(host, spec, evaluators=["params", f1], objectives={"f1": "maximize"}).evaluators[1]["use"] == "metric"


def test_a_function_over_a_file_takes_the_files_objectives(host: PluginHost, tmp_path: Path) -> None:
    file = tmp_path / "base.yaml"
    file.write_text(BASE.replace("accuracy: max", "f1: max"))
    spec = said(host, file, evaluators=[f1, "params"])
    assert spec.evaluators[0]["direction"] == "maximize"


@pytest.mark.parametrize(
    ("given", "text"), [(90, "90.000000s"), (0.5, "0.500000s"), (timedelta(hours=1), "3600.000000s"), ("1h", "1h")]
)
def test_durations(given: Any, text: str) -> None:
    assert duration(given) == text


class Nameless(Component):
    """Is of no kind."""

    name = "nameless"


class Unfinished(Evaluator):
    """Has no metrics."""

    name = "unfinished"

    def evaluate(self, model, ctx):
        return {}


class Accuracy(Evaluator):
    """Has the name of another."""

    name = "accuracy"
    metrics = (Metric("half", "", "minimize", Cost.FORWARD),)

    def evaluate(self, model, ctx):
        return {}


LIVE: dict[str, Any] = {"model": NET, "data": {"train": LOADER}}


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"model": NET, "data": LOADER}, "data: is of type DataLoader; say which split it is: data={'train': …"),
        ({**LIVE, "model": nn.Linear}, "model: is what makes a network; hand over the network itself, or write {'use'"),
        (
            {**LIVE, "model": nn.DataParallel(NET)},
            "model: is a DataParallel; hand over the network in it, model=network.",
        ),
        ({"spec": NET}, "spec: is of type Sequential, no spec; a network is handed over by model=…"),
        ({**LIVE, "model": 3}, "model: is of type int; name a model by {'use': …}, or hand one over"),
        ({**LIVE, "model": "digit-cnn"}, "model: is 'digit-cnn', which no model source is called and none reads"),
        ({**LIVE, "scorer": 3}, "scorer: is of type int; name a scorer by {'use': …}, or hand one over"),
        ({**LIVE, "scorer": [f1]}, "scorer.0: is of type function; name a scorer by"),
        ({**LIVE, "scorer": "tailor"}, "scorer.use: no scorer is called 'tailor'; did you mean 'taylor'?"),
        ({**LIVE, "task": Half}, "task.use: no task is called 'half'; 'half' is of kind evaluator"),
        ({**LIVE, "evaluators": [f1], "objectives": {"macs": "minimize"}}, "evaluators.0: which way is f1 better?"),
        ({**LIVE, "evaluators": [lambda o, t: 1.0]}, "evaluators.0: is called '<lambda>'; a metric takes a name: def"),
        ({**LIVE, "evaluators": ["macs"]}, "objectives: missing key"),
        ({**LIVE, "objectives": {"acuracy": "maximize"}}, "objectives.acuracy: no evaluator makes this metric; did"),
        ({**LIVE, "workers": 2}, "search.workers: the model and the data are of this process alone, and worker"),
        ({**LIVE, "trials": 0}, "search.trials: must be at least 1, not 0"),
        ({"data": {"train": LOADER}}, "model: missing key"),
        ({**LIVE, "data": {"train": LOADER, "bounds": (1, 0)}}, "data.bounds: 1.0 is not below 0.0"),
    ],
)
def test_what_does_not_fit_is_one_line_without_a_place_in_a_text(
    keys: dict[str, Any], line: str, host: PluginHost
) -> None:
    with pytest.raises(SpecError) as error:
        said(host, **keys)
    (only,) = error.value.mistakes
    assert str(only).startswith(f"autoprune: {line}")
    assert "\n" not in str(only)


def test_two_metrics_of_one_name_are_refused(host: PluginHost) -> None:
    def other(outputs, targets):
        return 1.0

    other.__name__ = "f1"
    with pytest.raises(SpecError, match=r"evaluators.1: is the second metric called 'f1'; rename one of them"):
        said(host, **LIVE, evaluators=[f1, other], objectives={"f1": "maximize"})


def test_a_mistake_in_a_file_keeps_its_place(host: PluginHost, tmp_path: Path) -> None:
    file = tmp_path / "base.yaml"
    file.write_text(BASE.replace("trials: 30", "trails: 30"))
    with pytest.raises(SpecError) as error:
        said(host, file, scorer="tailor")
    first, second = sorted(str(mistake) for mistake in error.value.mistakes)
    assert first.startswith(f"{file}:6:10: search.trails: unknown key")
    assert second.startswith("autoprune: scorer.use: no scorer is called 'tailor'")


@pytest.mark.parametrize("broken", [Unfinished, Accuracy, Nameless])
def test_a_class_that_the_host_cannot_take_is_refused(broken: type[Component], host: PluginHost) -> None:
    what = "has no metrics|several plugins bring|is no component class"
    with pytest.raises(PluginError, match=f"^{broken.__name__}: .*({what})"):
        said(host, **LIVE, evaluators=[broken], objectives={"half": "minimize"})


@pytest.mark.parametrize(
    ("keyword", "hint"),
    [
        ("trails", "did you mean 'trials'?"),
        ("evaluator", "did you mean 'evaluators'?"),
        ("early_rejection", "write search={'early_rejection': …}"),
    ],
)
def test_an_unknown_keyword_is_refused_with_a_near_one(keyword: str, hint: str) -> None:
    with pytest.raises(SpecError) as error:
        autoprune.search(**LIVE, **{keyword: 3}, progress=False)
    assert str(error.value) == f"autoprune: {keyword}: unknown keyword; {hint}"


def test_the_keys_of_a_spec_are_keywords() -> None:
    import inspect

    keywords = set(inspect.signature(autoprune.search).parameters)
    assert set(Spec.model_fields) <= keywords
    assert {"trials", "timeout", "seed", "workers", "sampler"} <= keywords


def test_a_split_stays_what_it_is(host: PluginHost) -> None:
    split = Split.of_tensors(torch.randn(4, 3), torch.arange(4))
    said(host, model=NET, data={"train": split})
    assert host.objects["data"]["train"] is split
