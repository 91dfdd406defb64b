"""Metrics that a user wrote: functions, classes and instances, and what is said when they are wrong."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor

from autoprune import AutopruneError, DataError, TrialError
from autoprune.plugin import Measured, SourceContext
from autoprune.toolkit.packages import optional
from autoprune_evaluators import UserMetric, _user_code, metric
from autoprune_tasks.classification import Classification
from autoprune_tasks.multi_head import MultiHead
from autoprune_tasks.multilabel import Multilabel
from autoprune_tasks.regression import Regression
from tests.plugins.evaluators.answers import Answer, context

MODULE = '''\
import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score


def f1(outputs, targets, average="macro"):
    return f1_score(targets, outputs.argmax(1), average=average)


def auc(outputs, targets):
    return roc_auc_score(np.asarray(targets), np.asarray(outputs)[:, 1])


def correlation(outputs, targets):
    return np.corrcoef(outputs, targets)[0, 1]


def right(outputs, targets):
    return outputs.argmax(1) == targets


def says(outputs, targets, value=0.0):
    return eval(value, {"np": np, "torch": torch})


def fails(outputs, targets):
    number = 1
    return number / 0


def destroys(outputs, targets):
    outputs.zero_()
    targets.zero_()
    return 1.0


def longest(outputs, targets):
    return float(outputs.shape[1])


def deep(outputs, targets):
    return max(outputs["left"].max(), targets["left"].max())


class Hits:
    """As torchmetrics has them, and what it saw."""

    higher_is_better = True

    def __init__(self, classes=3):
        self.classes = classes
        self.reset()

    def reset(self):
        self.hits, self.samples = 0, []

    def update(self, outputs, targets):
        self.hits += int((outputs.argmax(1) == targets).sum())
        self.samples.append(len(targets))
        targets.zero_()

    def compute(self):
        assert max(self.samples) <= 100 * self.classes
        return torch.tensor(self.hits / sum(self.samples))


class Within:
    def __init__(self, top):
        self.top = top

    def __call__(self, outputs, targets):
        return (outputs.topk(self.top).indices == targets[:, None]).any(1).double().mean()


hits, number = Hits(), 7
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mymetrics.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("mymetrics", None)


def classified(samples: int = 90, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(classes, (samples,), generator=generator)
    return torch.randn(samples, classes, generator=generator) + torch.eye(classes)[targets], targets


def measured(
    folder: Path, target: str, outputs: Any = None, targets: Any = None, *, task: Any = None, **options: Any
) -> Measured:
    """The metric under the name that it is declared by."""
    changes = {name: options.pop(name) for name in ("report", "source", "cache") if name in options}
    evaluator = UserMetric.model_validate({"target": target, "direction": "maximize", **options})
    if outputs is None:
        outputs, targets = classified()
    ctx = context(outputs, targets, task or Classification(), folder=folder, **changes)
    ((name, found),) = evaluator.evaluate(Answer(), ctx).items()
    (declared,) = evaluator.declares(None)
    assert declared.name == name
    return found


def test_a_function_gets_all_samples_at_once(folder: Path) -> None:
    outputs, targets = classified()
    found = measured(folder, "mymetrics:f1", batch_size=16, resamples=40)
    assert found.value == pytest.approx(f1_score(targets, outputs.argmax(1), average="macro"), rel=1e-12)
    assert found.samples == 90
    micro = measured(folder, "mymetrics:f1", args={"average": "micro"}, resamples=0)
    assert micro.value == pytest.approx(f1_score(targets, outputs.argmax(1), average="micro"), rel=1e-12)


def test_the_interval_is_scipys_bootstrap_over_samples(folder: Path) -> None:
    x, y = torch.randn(2, 150, generator=torch.Generator().manual_seed(0))
    y = y + x
    ours = measured(folder, "mymetrics:correlation", x, y, task=Regression(), resamples=2000, batch_size=64)
    assert ours.value == pytest.approx(stats.pearsonr(x, y).statistic, rel=1e-6)

    def correlation(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        x, y = (each - each.mean(axis, keepdims=True) for each in (x, y))
        return (x * y).sum(axis) / np.sqrt((x * x).sum(axis) * (y * y).sum(axis))

    reference = stats.bootstrap(
        (x.double().numpy(), y.double().numpy()),
        correlation,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = reference.high - reference.low
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=0.08 * width)
    few = measured(folder, "mymetrics:correlation", x, y, task=Regression())
    assert (few.low, few.high) == pytest.approx((reference.low, reference.high), abs=0.25 * width)


def test_what_it_is_called_and_which_way_is_better() -> None:
    (plain,) = UserMetric(target="my.metrics:Best.f1", direction="minimize").declares(None)
    assert (plain.name, plain.direction, plain.unit) == ("f1", "minimize", "1")
    named = UserMetric(target="mymetrics:f1", direction="maximize", called="macro_f1", unit="fraction", label="b")
    (made,) = named.produces()
    assert (made.name, made.direction, made.unit) == ("macro_f1_b", "maximize", "fraction")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "mymetrics"}, "write module:function, as in mymetrics:f1"),
        ({"target": "my-metrics:f1"}, "write module:function, as in mymetrics:f1"),
        ({"target": "m:f", "direction": "up"}, "'minimize' or 'maximize'"),
        ({"target": "m:f", "resamples": 10}, "10 resamples tell no 95 % interval: write 40 or more, or 0 for none"),
        ({"target": "m:f", "called": "top-1"}, "called"),
        ({"target": "m:f", "unit": ""}, "unit"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        UserMetric.model_validate({"direction": "maximize", **options})
    with pytest.raises(ValidationError, match="direction"):
        UserMetric.model_validate({"target": "m:f"})


def test_values_per_sample_have_the_interval_of_a_mean(folder: Path) -> None:
    outputs, targets = classified()
    told: list[Mapping[str, Measured]] = []
    found = measured(folder, "mymetrics:right", per_sample=True, batch_size=40, report=told.append)
    right = (outputs.argmax(1) == targets).double().numpy()
    assert found.value == pytest.approx(right.mean())
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.95, loc=right.mean(), scale=stats.sem(right)))
    assert [each["right"].samples for each in told] == [40, 80, 90]
    assert told[-1]["right"] == found


def test_a_class_is_fed_batch_by_batch(folder: Path) -> None:
    outputs, targets = classified()
    expected = float((outputs.argmax(1) == targets).double().mean())
    for options in ({"args": {"classes": 3}}, {"resamples": 0}, {"batch_size": 7}):
        found = measured(folder, "mymetrics:Hits", **options)
        assert found.value == pytest.approx(expected)
        assert (found.low is None) == ("resamples" in options)
        assert found.samples == 90


def test_an_instance_is_copied(folder: Path) -> None:
    first = measured(folder, "mymetrics:hits")
    assert measured(folder, "mymetrics:hits") == first == measured(folder, "mymetrics:Hits")
    assert sys.modules["mymetrics"].hits.samples == []
    with pytest.raises(TrialError, match=r"^mymetrics:hits is an instance already: `args` are for a class, or a func"):
        measured(folder, "mymetrics:hits", args={"classes": 3})


def test_a_class_whose_instances_are_functions(folder: Path) -> None:
    assert measured(folder, "mymetrics:Within", args={"top": 3}).value == 1
    assert 0.3 < measured(folder, "mymetrics:Within", args={"top": 1}).value < 1


@pytest.mark.slow
def test_torchmetrics_is_scikit_learn(folder: Path) -> None:
    optional("torchvision")  # torchmetrics imports it
    outputs, targets = classified()
    target = "torchmetrics.classification:MulticlassF1Score"
    found = measured(folder, target, args={"num_classes": 3}, batch_size=16)
    assert found.value == pytest.approx(f1_score(targets, outputs.argmax(1), average="macro"), rel=1e-6)
    function = measured(folder, "mymetrics:f1")
    assert (found.low, found.high) == pytest.approx((function.low, function.high), rel=1e-5)
    with pytest.raises(TrialError, match=r"says that higher is better: direction: maximize$"):
        measured(folder, target, args={"num_classes": 3}, direction="minimize")
    with pytest.raises(TrialError, match=r"^torchmetrics.* gives \(3,\) float32, not a number$"):
        measured(folder, target, args={"num_classes": 3, "average": "none"})
    with pytest.raises(TrialError, match=r"^torchmetrics.*MulticlassF1Score: making it failed: .*num_classes"):
        measured(folder, target)


def test_objects_that_python_code_handed_over(folder: Path) -> None:
    objects = {"metrics": {"share": lambda outputs, targets: (outputs.argmax(1) == targets).double().mean()}}
    source = SourceContext(folder=folder, cache=folder, seed=0, objects=objects)
    assert 0.3 < measured(folder, "live:share", source=source).value < 1
    with pytest.raises(TrialError, match=r"^live:shar: Python code handed over no metric .*; did you mean 'share'\?"):
        measured(folder, "live:shar", source=source)
    with pytest.raises(TrialError, match=r"^live:share: Python code handed over no metric of that name; a file's is"):
        measured(folder, "live:share")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("float('nan')", "gives nan"),
        ("torch.tensor(float('inf'))", "gives inf"),
        ("None", "gives NoneType, not a number"),
        ("'0.5'", "gives str, not a number"),
        ("True", "gives bool, not a number"),
        ("np.ones(3)", r"gives \(3,\) float64, not a number"),
        ("torch.ones(2, 2)", r"gives \(2, 2\) float32, not a number"),
        ("{'f1': 1.0}", r"gives \{f1: float\}, not a number"),
        ("1j", "gives complex, not a number"),
    ],
)
def test_what_is_no_finite_number_fails_with_the_functions_line(value: str, message: str, folder: Path) -> None:
    line = next(i for i, text in enumerate(MODULE.splitlines(), start=1) if text.startswith("def says"))
    with pytest.raises(TrialError, match=rf"^mymetrics:says \(.*mymetrics\.py:{line}\) {message}$"):
        measured(folder, "mymetrics:says", args={"value": value})


@pytest.mark.parametrize(
    "value", ["1", "np.float32(1)", "np.ones(1)", "torch.ones(1, 1)", "torch.tensor(1)", "torch.ones(()).bfloat16()"]
)
def test_numbers_of_all_kinds_will_do(value: str, folder: Path) -> None:
    found = measured(folder, "mymetrics:says", args={"value": value})
    assert (found.value, type(found.value)) == (1.0, float)


def test_what_the_function_raises_is_told_with_its_line(folder: Path) -> None:
    line = MODULE.splitlines().index("    return number / 0") + 1
    with pytest.raises(TrialError, match=rf"^mymetrics:fails: ZeroDivisionError: .*\(.*mymetrics\.py:{line}\)$"):
        measured(folder, "mymetrics:fails")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mymetrics:rigth", r"^target 'mymetrics:rigth': .* has no 'rigth'; did you mean 'right'\?$"),
        ("mymetric:f1", r"^target 'mymetric:f1': no module 'mymetric' .*; did you mean 'mymetrics'\?$"),
        ("mymetrics:number", r"^mymetrics:number is int: neither a function \(outputs, targets\) nor what has update"),
        ("broken:f1", r"^target 'broken:f1': importing broken failed: NameError: .*broken\.py:1\)$"),
        ("mymetrics:Within", r"^mymetrics:Within: making it failed: TypeError: .*'top'"),
    ],
)
def test_what_cannot_be_found_is_told(target: str, message: str, folder: Path) -> None:
    (folder / "broken.py").write_text("what\n")
    with pytest.raises(AutopruneError, match=message) as error:
        measured(folder, target)
    assert isinstance(error.value, DataError | TrialError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "mymetrics:f1"}, r"gives float for 90 samples, not one value each$|gives \(\) float64 for 90"),
        (
            {"target": "mymetrics:says", "args": {"value": "torch.ones(90, 1)"}},
            r"gives \(90, 1\) float32 for 90 samples",
        ),
        ({"target": "mymetrics:says", "args": {"value": "[float('nan')] * 90"}}, "gives nan for a sample"),
        ({"target": "mymetrics:says", "args": {"value": "['a'] * 90"}}, "TypeError"),
        ({"target": "mymetrics:Hits"}, "is fed batch by batch; per_sample is for functions that give"),
    ],
)
def test_what_is_no_value_per_sample(options: Mapping[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(TrialError, match=message):
        measured(folder, **options, per_sample=True)


def test_user_code_cannot_spoil_what_others_get(folder: Path) -> None:
    cache: dict[object, object] = {}
    before = measured(folder, "mymetrics:f1", cache=cache, batch_size=90, resamples=0)
    for target in ("mymetrics:destroys", "mymetrics:Hits"):
        for resamples in (0, 40):
            measured(folder, target, cache=cache, batch_size=90, resamples=resamples)
    assert len(cache) == 1
    assert measured(folder, "mymetrics:f1", cache=cache, batch_size=90, resamples=0) == before


def test_a_function_that_writes_into_its_arguments_gets_fresh_ones_each_time(folder: Path) -> None:
    (folder / "mymetrics.py").write_text(
        "def mean(outputs, targets):\n    found = float(outputs.mean())\n    outputs.zero_()\n    return found\n"
    )
    outputs, targets = classified()
    found = measured(folder, "mymetrics:mean", outputs + 5, targets)
    assert found.value == pytest.approx(float((outputs + 5).mean()))
    assert found.low > 4


def test_batches_of_several_lengths_are_refused_or_taken_one_by_one(folder: Path) -> None:
    class Trimmed(Answer):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, : 2 + int(x[0, 0] > 0)]

    outputs = torch.linspace(-1, 1, 40)[:, None].expand(40, 5).clone()

    def evaluated(**options: Any) -> Measured:
        evaluator = UserMetric.model_validate({"direction": "maximize", "batch_size": 3, **options})
        ctx = context(outputs, torch.zeros(40, dtype=torch.int64), Regression(), folder=folder)
        return next(iter(evaluator.evaluate(Trimmed(), ctx).values()))

    with pytest.raises(
        TrialError, match=r"^outputs of batches are \(3, \d\) .* one length, or write per_sample: true$"
    ):
        evaluated(target="mymetrics:longest")
    with pytest.raises(TrialError, match=r"^outputs of batches are .* one length, or write resamples: 0$"):
        evaluated(target="mymetrics:Hits")
    assert evaluated(target="mymetrics:Hits", resamples=0).samples == 40
    assert evaluated(target="mymetrics:right", per_sample=True).samples == 40


def test_outputs_that_would_fill_the_memory_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_user_code, "_MOST_KEPT", 90 * 3 * 4)
    with pytest.raises(TrialError, match=r"^outputs and targets of all samples take more than .* per_sample: true$"):
        measured(folder, "mymetrics:f1")
    measured(folder, "mymetrics:Hits", resamples=0)
    measured(folder, "mymetrics:f1", samples=30, resamples=0)


@pytest.mark.parametrize("target", ["mymetrics:correlation", "mymetrics:Hits"])
def test_of_large_outputs_there_is_an_interval_where_it_is_asked_for(
    target: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, targets = classified()
    outputs = outputs[:, 0] if target == "mymetrics:correlation" else outputs
    usual = measured(folder, target, outputs, targets, batch_size=16)
    assert usual == measured(folder, target, outputs, targets, batch_size=16, resamples=200)
    monkeypatch.setattr(metric, "_LARGE", 300)
    assert measured(folder, target, outputs, targets, batch_size=16) == Measured(value=usual.value, samples=90)
    assert measured(folder, target, outputs, targets, batch_size=16, resamples=200) == usual


def test_several_outputs_and_targets_come_by_name(folder: Path) -> None:
    outputs = {"left": torch.rand(30, 1), "right": torch.rand(30, 1)}
    targets = {"left": torch.rand(30, 1), "right": torch.rand(30, 1)}
    task = MultiHead(heads={"left": Regression(), "right": Regression()})
    found = measured(folder, "mymetrics:deep", outputs, targets, task=task, batch_size=7)
    assert found.value == pytest.approx(float(max(outputs["left"].max(), targets["left"].max())))


def test_half_precision_comes_as_float32(folder: Path) -> None:
    outputs, targets = classified(classes=2)
    found = measured(folder, "mymetrics:auc", outputs.bfloat16(), targets, resamples=0)
    assert found.value == pytest.approx(roc_auc_score(targets, outputs.bfloat16().float()[:, 1]))


def test_what_only_some_resamples_define_has_an_interval_of_those(folder: Path) -> None:
    """Of two positives among forty, one resample in seven has none: scikit-learn warns, and gives NaN."""
    scores, targets = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(40).long()
    targets[:2] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measured(folder, "mymetrics:auc", scores, targets, resamples=60)
    assert found.low < found.value < found.high
    assert math.isfinite(found.low)


def test_final_takes_the_whole_split() -> None:
    assert UserMetric(target="m:f", direction="maximize", samples=10).final().samples is None


def test_it_is_stored_as_the_spec_wrote_it() -> None:
    written = UserMetric(target="m:f", direction="maximize", args={"k": [1, 2]}, head="a")
    stored = json.loads(json.dumps(written.reference()))
    assert stored.pop("use") == "metric"
    assert UserMetric.model_validate(stored) == written


def test_multi_hot_targets_reach_the_function(folder: Path) -> None:
    outputs, targets = torch.randn(40, 3), torch.randint(2, (40, 3)).float()
    (folder / "mymetrics.py").write_text("def share(o, t):\n    return ((o > 0) == (t > 0)).double().mean()\n")
    found = measured(folder, "mymetrics:share", outputs, targets, task=Multilabel())
    assert found.value == pytest.approx(float(((outputs > 0) == (targets > 0)).double().mean()))
