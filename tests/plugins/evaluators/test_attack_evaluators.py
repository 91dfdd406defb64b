"""PGD and FGSM: against Foolbox and ART, within their ball, with fixed noise, leaving no trace on the model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Inputs, Measured, Normalization, Split, Task
from autoprune.toolkit.balls import L2, Ball, Linf
from autoprune_evaluators import Accuracy, Apgd, Fgsm, Pgd
from autoprune_evaluators._attack import ProjectedGradient, withstood
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression
from autoprune_tasks.segmentation import Segmentation

if TYPE_CHECKING:
    from conftest import Case

with warnings.catch_warnings():
    # Foolbox 3.3.4 imports scipy.ndimage.filters, which scipy 1.8 deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox

FOOLBOX = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}
BALLS: Mapping[str, type[Linf | L2]] = {"linf": Linf, "l2": L2}


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.argmax(1) == targets


COUNT = 32
"""Of samples that attacks are compared on: of the real ResNet-20, one costs as much as a hundred digits."""


def right_ones(case: Case, count: int = COUNT) -> tuple[Tensor, Tensor]:
    """Images that the model predicts right, of the first ``count``."""
    inputs, targets = case.data.validation.fetch(torch.arange(count))
    images = inputs.first
    with torch.no_grad():
        right = hits(case.model(images), targets)
    return images[right], targets[right]


def by_foolbox(case: Case, images: Tensor, targets: Tensor, *, norm: str, epsilon: float, **options: Any) -> Tensor:
    """Foolbox's adversarial images, with its own preprocessing of the bare network."""
    normalization = case.data.normalization
    assert normalization is not None
    preprocessing = {"mean": list(normalization.mean), "std": list(normalization.std), "axis": -3}
    model = foolbox.PyTorchModel(case.model.network, bounds=(0, 1), device="cpu", preprocessing=preprocessing)
    attack = FOOLBOX[norm](random_start=False, **options)
    return attack.run(model, images, foolbox.criteria.Misclassification(targets), epsilon=epsilon)


def withstanding(case: Case, images: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        return hits(case.model(images), targets)


def few(case: Case, count: int = COUNT) -> Case:
    """The first ``count`` samples are the whole split, so that every evaluator sees the same."""
    inputs, targets = case.data.validation.fetch(torch.arange(count))
    return case.with_data(validation=Split.of_tensors(inputs, targets))


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 2 / 255), ("linf", 0.1), ("l2", 0.25)])
def test_one_step_gives_foolboxs_adversarial_images(case: Case, norm: str, epsilon: float) -> None:
    images, targets = right_ones(case)
    attack = steps_of(BALLS[norm](epsilon), 1, epsilon)
    ours, worst = attack.perturb(
        case.model, Inputs.of(images), targets, torch.zeros_like(images), task=Classification()
    )
    theirs = by_foolbox(case, images, targets, norm=norm, epsilon=epsilon, steps=1, abs_stepsize=epsilon)
    assert (ours - theirs).abs().max() < 1e-5
    assert worst.tolist() == withstanding(case, theirs, targets).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", "2/255"), ("l2", "0.25")])
def test_fgsm_measures_what_foolbox_does(case: Case, norm: Any, epsilon: str) -> None:
    evaluator = Fgsm(epsilon=epsilon, norm=norm)
    images, targets = right_ones(case)
    theirs = by_foolbox(
        case, images, targets, norm=norm, epsilon=evaluator.epsilon, steps=1, abs_stepsize=evaluator.epsilon
    )
    measured = few(case).measure(evaluator)["robust_accuracy"]
    assert measured.value == int(withstanding(case, theirs, targets).sum()) / COUNT
    assert measured.samples == COUNT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm", "epsilon"),
    [
        ("digits", "linf", 0.05), ("digits", "linf", 0.15), ("digits", "l2", 0.5),
        ("cifar", "linf", 1 / 255), ("cifar", "l2", 0.1),
    ],
)  # fmt: skip
def test_pgd_measures_what_foolbox_does(request: pytest.FixtureRequest, name: str, norm: Any, epsilon: float) -> None:
    case: Case = request.getfixturevalue(name)
    images, targets = right_ones(case)
    theirs = by_foolbox(case, images, targets, norm=norm, epsilon=epsilon, steps=10, abs_stepsize=epsilon / 4)
    expected = int(withstanding(case, theirs, targets).sum())
    measured = few(case).measure(Pgd(epsilon=epsilon, norm=norm, random_start=False))["robust_accuracy"]
    # Foolbox looks at the last iterate alone; an iterate that was adversarial before counts for us.
    assert expected - 1 <= measured.value * COUNT <= expected
    assert 0 < measured.value < few(case).measure(Accuracy())["accuracy"].value


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.2), ("l2", 2.0)])
def test_pgd_on_a_robust_net_measures_what_foolbox_does_at_every_step(robust: Case, norm: Any, epsilon: float) -> None:
    images, targets = right_ones(robust, 128)
    left = torch.ones(len(images), dtype=torch.bool)
    for steps in range(1, 11):
        theirs = by_foolbox(robust, images, targets, norm=norm, epsilon=epsilon, steps=steps, abs_stepsize=epsilon / 4)
        left &= withstanding(robust, theirs, targets)
    measured = few(robust, 128).measure(Pgd(epsilon=epsilon, norm=norm, random_start=False))["robust_accuracy"]
    assert measured.value * 128 == int(left.sum())
    assert 0.3 < measured.value < 0.9


@pytest.mark.slow
def test_pgd_measures_what_art_does(digits: Case) -> None:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    images, targets = right_ones(digits, 128)
    loss = nn.CrossEntropyLoss()
    model = PyTorchClassifier(digits.model, loss, tuple(images.shape[1:]), 10, clip_values=(0, 1), device_type="cpu")
    attack = ProjectedGradientDescentPyTorch(
        model, norm="inf", eps=0.1, eps_step=0.02, max_iter=10, num_random_init=0, verbose=False
    )
    theirs = torch.from_numpy(attack.generate(images.numpy(), targets.numpy()))
    expected = int(withstanding(digits, theirs, targets).sum())
    ours = few(digits, 128).measure(Pgd(epsilon=0.1, step_size=0.02, random_start=False))["robust_accuracy"]
    assert abs(ours.value * 128 - expected) <= 2
    for parameter in digits.model.parameters():
        parameter.grad = None


@pytest.mark.slow
def test_epsilon_taken_after_normalisation_would_show(cifar: Case) -> None:
    """A fault seen in the wild: epsilon on the normalised image is a four to five times weaker attack."""
    epsilon, case = 2 / 255, few(cifar)
    ours = case.measure(Pgd(epsilon=epsilon, random_start=False))["robust_accuracy"].value
    images, targets = right_ones(cifar)
    theirs = by_foolbox(cifar, images, targets, norm="linf", epsilon=epsilon, steps=10, abs_stepsize=epsilon / 4)
    assert abs(ours - float(withstanding(cifar, theirs, targets).sum()) / COUNT) <= 1 / COUNT

    normalized = cifar.model.normalized(Inputs.of(images)).first
    low, high = float(normalized.min()), float(normalized.max())
    bare = foolbox.PyTorchModel(cifar.model.network, bounds=(low, high), device="cpu")
    attack = foolbox.attacks.LinfPGD(random_start=False, steps=10, abs_stepsize=epsilon / 4)
    wrong = attack.run(bare, normalized, foolbox.criteria.Misclassification(targets), epsilon=epsilon)
    with torch.no_grad():
        faulty = float(hits(cifar.model.network(wrong), targets).sum()) / COUNT
    assert faulty > ours + 0.2


def steps_of(ball: Ball, steps: int, step_size: float, **options: Any) -> ProjectedGradient:
    return ProjectedGradient(ball=ball, steps=steps, step_size=step_size, **{"bounds": (0, 1), **options})


def run(
    model: nn.Module,
    inputs: Inputs | Tensor,
    targets: Any,
    attack: ProjectedGradient,
    *,
    task: Task | None = None,
    restarts: int = 1,
    seed: int = 0,
    report: Callable[[Tensor, Tensor], None] = lambda *_: None,
) -> Tensor:
    """The attack on one batch: the shares that withstood."""
    shares, _ = withstood(
        model,
        [(Inputs.of(inputs), targets)],
        [attack, *[replace(attack, random_start=True)] * (restarts - 1)],
        task=task or Classification(),
        seed=seed,
        report=report,
    )
    return shares


class Linear(nn.Module):
    """A random classifier of tiny images."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


class Recorder(nn.Module):
    """Keeps every input it gets and passes it on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach().clone())
        return self.model(x)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(1e-4, 2.0),
    steps=st.integers(1, 4),
    step_size=st.floats(1e-4, 5.0),
    restarts=st.integers(1, 2),
    random_start=st.booleans(),
    low=st.sampled_from([0.0, -1.0]),
)
def test_every_input_the_model_sees_is_in_the_ball_and_in_bounds(
    seed: int, norm: str, epsilon: float, steps: int, step_size: float, restarts: int, random_start: bool, low: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Bounds themselves are legal values, and common ones: black and white.
    images = (torch.rand(6, 2, 3, 3, generator=generator) * 1.5 - 0.25).clamp(0, 1) * (1 - low) + low
    recorder = Recorder(Linear(torch.randn(18, 3, generator=generator)))
    targets = recorder.model(images).argmax(1)
    attack = steps_of(BALLS[norm](epsilon), steps, step_size, bounds=(low, 1.0), random_start=random_start)
    reports: list[Tensor] = []
    shares = run(
        recorder,
        images,
        targets,
        attack,
        restarts=restarts,
        seed=seed,
        report=lambda shares, _: reports.append(shares),
    )
    assert [told.tolist() for told in reports] == [shares.tolist()]
    assert shares.shape == (6,)
    assert set(shares.tolist()) <= {0.0, 1.0}
    clean, *attacked = recorder.inputs
    assert torch.equal(clean, images)
    assert attacked
    for inputs in attacked:
        assert len(inputs)
        assert inputs.min() >= low
        assert inputs.max() <= 1.0
        # Which image an input came from is not recorded: one of them must be near enough.
        away = (inputs[:, None] - images[None]).flatten(2)
        distance = away.abs().amax(2) if norm == "linf" else away.norm(dim=2)
        assert (distance.amin(1) <= epsilon * (1 + 1e-5) + 1e-6).all()


def test_every_model_of_a_study_starts_from_the_same_noise(digits: Case) -> None:
    evaluator, starts, attacked = Pgd(epsilon=0.1, steps=1, batch_size=20), [], []
    images, targets = digits.data.validation.fetch(torch.arange(40))
    numbered = digits.with_data(validation=Split.of_tensors(images, torch.arange(40)))
    (_, first), _ = evaluator.batches(numbered.context())
    for seed, spoilt in ((1, []), (2, first)):  # two trials; the second one's model is wrong on the first batch
        wrong = targets.clone()
        wrong[spoilt] = (wrong[spoilt] + 1) % 10
        case = digits.with_data(validation=Split.of_tensors(images, wrong))
        recorder = Recorder(digits.model)
        case.measure(evaluator, recorder, seed=seed)
        # Per batch: clean, start, end.
        starts.append(recorder.inputs[-2])
        attacked.append(sum(map(len, recorder.inputs)))
    assert torch.equal(*starts)
    assert attacked[0] > attacked[1]


def test_a_value_can_be_had_again_and_depends_on_the_options_seed_alone(digits: Case) -> None:
    evaluator = Pgd(epsilon=0.1, samples=100)
    first = digits.measure(evaluator, seed=1)
    assert digits.measure(evaluator, seed=2) == first

    def noise(seed: int) -> Tensor:
        recorder = Recorder(digits.model)
        digits.measure(Pgd(epsilon=0.1, samples=100, steps=1, seed=seed), recorder)
        return recorder.inputs[1]

    assert torch.equal(noise(0), noise(0))
    assert not torch.equal(noise(0), noise(1))


@pytest.mark.parametrize("evaluator", [Fgsm(epsilon=0.1), Pgd(epsilon=0.1, steps=2, restarts=2)], ids=lambda e: e.name)
def test_every_batch_is_told_of(digits: Case, evaluator: Fgsm | Pgd) -> None:
    """Of how many samples so far are still predicted right."""
    some = evaluator.model_copy(update={"samples": 50, "batch_size": 20})
    told: list[Mapping[str, Measured]] = []
    result = digits.measure(some, report=told.append)
    assert [set(partial) for partial in told] == [{"robust_accuracy"}] * 3
    assert [partial["robust_accuracy"].samples for partial in told] == [20, 40, 50]
    assert told[-1]["robust_accuracy"] == result["robust_accuracy"].model_copy(update={"difference": None})
    before = 0
    for partial, (inputs, targets) in zip(told, some.batches(digits.context()), strict=True):
        measured = partial["robust_accuracy"]
        assert measured.samples is not None
        assert measured.low is not None
        assert measured.high is not None
        assert measured.low < measured.value < measured.high
        kept = round(measured.value * measured.samples)
        with torch.no_grad():
            right = int(hits(inputs.feed(digits.model), targets).sum())
        assert 0 < kept - before < right, "of each batch, some of those predicted right fell"
        before = kept


@pytest.mark.parametrize("evaluator", [Fgsm(epsilon=0.1), Pgd(epsilon=0.1)], ids=lambda e: e.name)
def test_an_attack_that_is_given_up_ends_there(digits: Case, evaluator: Fgsm | Pgd) -> None:
    class Enough(BaseException):
        pass

    def give_up(measured: Mapping[str, Measured]) -> None:
        told.append(measured["robust_accuracy"].samples)
        if len(told) == 2:
            raise Enough

    told: list[int | None] = []
    recorder = Recorder(digits.model)
    some = evaluator.model_copy(update={"samples": 100, "batch_size": 20})
    with pytest.raises(Enough):
        digits.measure(some, recorder, report=give_up)
    assert told == [20, 40]
    batches = [inputs.first for inputs, _ in some.batches(digits.context())]
    seen = [any(torch.equal(batch, inputs) for inputs in recorder.inputs) for batch in batches]
    assert seen == [True, True, False, False, False]
    assert all(parameter.requires_grad for parameter in digits.model.parameters())


def test_images_that_fell_are_not_attacked_again(digits: Case) -> None:
    recorder = Recorder(digits.model)
    digits.measure(Pgd(epsilon=0.2, steps=3, restarts=2, samples=50), recorder)
    sizes = [len(inputs) for inputs in recorder.inputs]
    assert sizes[0] == 50
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


def test_restarts_begin_at_noise_even_if_the_first_run_does_not(digits: Case) -> None:
    recorder = Recorder(digits.model)
    digits.measure(Pgd(epsilon=1e-4, steps=1, restarts=3, random_start=False, samples=10), recorder)
    clean, first, _, second, _, third, _ = recorder.inputs
    assert all(any(torch.equal(image, other) for other in clean) for image in first)
    for start in (second, third):
        assert not any(torch.equal(image, other) for image in start for other in clean)
    assert not torch.equal(second, third)


def test_what_is_wrong_already_is_not_robust(digits: Case) -> None:
    clean = digits.measure(Accuracy())["accuracy"]
    assert clean.value < 1
    tiny = digits.measure(Pgd(epsilon=1e-9, samples=None))["robust_accuracy"]
    assert tiny.value == clean.value
    assert tiny.samples == 400


def test_no_sample_predicted_right_is_no_error(digits: Case) -> None:
    images, _ = digits.data.validation.fetch(torch.arange(20))
    with torch.no_grad():
        wrong = (images.feed(digits.model).argmax(1) + 1) % 10
    case = digits.with_data(validation=Split.of_tensors(images, wrong))
    recorder = Recorder(digits.model)
    assert case.measure(Pgd(epsilon=0.1, restarts=2), recorder)["robust_accuracy"].value == 0
    assert [len(inputs) for inputs in recorder.inputs] == [20]


@pytest.mark.slow
def test_attacks_get_stronger(digits: Case) -> None:
    """With epsilon, from FGSM to PGD, and from the search's version to the final one."""

    def robust(evaluator: Fgsm | Pgd) -> float:
        return digits.measure(evaluator)["robust_accuracy"].value

    assert robust(Pgd(epsilon=0.05)) > robust(Pgd(epsilon=0.1)) > robust(Pgd(epsilon=0.3))
    assert robust(Fgsm(epsilon=0.1)) > robust(Pgd(epsilon=0.1)) >= robust(Pgd(epsilon=0.1).final())


def test_final_versions() -> None:
    final = Pgd(epsilon="8/255", steps=10).final()
    assert (final.steps, final.restarts, final.epsilon) == (20, 2, 8 / 255)
    assert Fgsm(epsilon=0.1).final() == Fgsm(epsilon=0.1)


def test_parameters_keep_their_flags_and_get_no_gradient(digits: Case) -> None:
    parameters = dict(digits.model.named_parameters())
    frozen = next(iter(parameters))
    parameters[frozen].requires_grad_(False)
    marker = torch.ones_like(parameters["network.7.bias"])
    parameters["network.7.bias"].grad = marker
    try:
        with torch.no_grad():
            digits.measure(Pgd(epsilon=0.1, steps=2))
            digits.measure(Fgsm(epsilon=0.1))
        assert {name for name, p in parameters.items() if not p.requires_grad} == {frozen}
        assert [name for name, p in parameters.items() if p.grad is not None] == ["network.7.bias"]
        assert torch.equal(marker, torch.ones_like(marker))
    finally:
        parameters[frozen].requires_grad_(True)
        parameters["network.7.bias"].grad = None


def test_no_gradient_of_a_parameter_is_computed() -> None:
    class Asked(Linear):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(self.weight.requires_grad)
            return super().forward(x)

    asked: list[bool] = []
    attack = steps_of(Linf(0.1), 1, 0.1)
    run(Asked(torch.zeros(4, 2)), torch.rand(2, 4), torch.zeros(2, dtype=torch.int64), attack)
    assert asked
    assert not any(asked)


def test_flags_come_back_after_a_crash() -> None:
    class Crashes(Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    model = Crashes(torch.zeros(4, 2))
    with pytest.raises(RuntimeError, match="out of memory"):
        run(model, torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), steps_of(Linf(0.1), 1, 0.1))
    assert model.weight.requires_grad


def test_only_the_first_input_is_attacked() -> None:
    class Gated(Linear):
        def forward(self, x: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
            seen.append(gate)
            return super().forward(x) * gate[:, None]

    seen: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)
    model = Gated(torch.randn(4, 3, generator=generator))
    images, gates = torch.rand(8, 4, generator=generator), torch.arange(1.0, 9.0)
    targets = super(Gated, model).forward(images).argmax(1)
    attack = steps_of(Linf(0.02), 3, 0.01)
    run(model, Inputs((images, gates)), targets, attack)
    assert all(set(gate.tolist()) <= set(gates.tolist()) for gate in seen)
    assert len(seen) == 5


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.1)])
def test_a_gradient_of_nan_is_not_taken_for_a_success(ball: Ball) -> None:
    class Rooted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.sum(1) + 1, (x * 0).sum(1).sqrt()], 1)

    attack = steps_of(ball, 3, 0.05, random_start=False)
    shares = run(Rooted(), torch.full((2, 4), 0.5), torch.zeros(2, dtype=torch.int64), attack)
    assert shares.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("2/255", 2 / 255), (" 8 / 255 ", 8 / 255), ("0.5/255", 0.5 / 255), ("1e-2", 0.01), (0.03, 0.03), (1, 1.0)],
)
def test_epsilon_is_a_number_or_a_fraction(written: Any, meant: float) -> None:
    for evaluator in (Pgd, Fgsm):
        component = evaluator.model_validate({"use": evaluator.name, "epsilon": written})
        assert component.epsilon == meant
        assert evaluator.model_validate(component.reference()) == component


@pytest.mark.parametrize(
    "written",
    [0, -0.1, "0", "-2/255", "2/0", "2/", "/255", "1/2/3", "two", "", "nan", ".inf", float("inf"), True, None],
)
def test_an_impossible_epsilon_is_refused(written: Any) -> None:
    for evaluator in (Pgd, Fgsm):
        with pytest.raises(ValidationError, match="epsilon"):
            evaluator.model_validate({"epsilon": written})
    with pytest.raises(ValidationError, match="epsilon"):
        Pgd.model_validate({})


@pytest.mark.parametrize(
    "options", [{"norm": "l1"}, {"steps": 0}, {"step_size": "0/255"}, {"restarts": 0}, {"samples": 0}, {"step": 3}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        Pgd.model_validate({"epsilon": 0.1, **options})


def test_the_schema_takes_both_ways_to_write_epsilon() -> None:
    import jsonschema

    schema = TypeAdapter(Pgd).json_schema()
    for good in ("2/255", " 8 / 255", "0.5/255", "1e-3", 0.03, 1):
        jsonschema.validate({"epsilon": good}, schema)
    for bad in ("two", "2/255/3", 0, -1, [1]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"epsilon": bad}, schema)


@pytest.mark.parametrize("evaluator", [Pgd(epsilon="2/255"), Fgsm(epsilon="2/255")])
def test_data_without_bounds_is_refused(digits: Case, evaluator: Pgd | Fgsm) -> None:
    assert evaluator.refuses(digits.data) is None
    tokens = digits.with_data(bounds=None, normalization=Normalization((0.0,), (1.0,)))
    assert "bounds" in (evaluator.refuses(tokens.data) or "")
    with pytest.raises(DataError, match="bounds"):
        tokens.measure(evaluator)


def test_an_epsilon_in_grey_levels_is_refused(digits: Case) -> None:
    reason = Pgd(epsilon=2).refuses(digits.data)
    assert reason is not None
    assert "2/255" in reason
    assert Pgd(epsilon=2).refuses(digits.with_data(bounds=(0.0, 255.0)).data) is None
    assert Pgd(epsilon=2, norm="l2").refuses(digits.data) is None


def test_inputs_outside_their_bounds_are_refused(digits: Case) -> None:
    with pytest.raises(DataError, match=r"0 to 0\.5"):
        digits.with_data(bounds=(0.0, 0.5)).measure(Pgd(epsilon=0.1))


class PerElement(Task):
    """Outputs and targets (N, E): an element is right where both have the same sign."""

    name = "per-element"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (-outputs * targets).sigmoid().sum(1)

    def divergence(self, outputs: Tensor, dense: Tensor) -> Tensor:
        return (outputs - dense).square().sum(1)

    def agreement(self, outputs: Tensor, dense: Tensor) -> Tensor:
        return (outputs.sign() == dense.sign()).float().mean(1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.sign() == targets).float().mean(1)


@pytest.mark.slow
def test_where_a_sample_has_many_elements_its_worst_iterate_counts() -> None:
    """Attacked one by one, the smallest share that any input the model saw had right."""
    generator = torch.Generator().manual_seed(0)
    weight, inputs = torch.randn(5, 4, generator=generator), torch.rand(30, 5, generator=generator)
    targets = (inputs @ weight).sign() * torch.tensor([1.0, 1, 1, -1])  # the last element is wrong from the start
    task, attack = PerElement(), steps_of(Linf(0.15), 4, 0.08)
    found = []
    for sample, wanted in zip(inputs.split(1), targets.split(1), strict=True):
        recorder = Recorder(Linear(weight))
        found.append(run(recorder, sample, wanted, attack, task=task, restarts=2))
        seen = torch.cat(recorder.inputs)
        assert float(found[-1]) == float((((seen @ weight).sign() == wanted).float().mean(1)).min())
    shares = torch.cat(found)
    assert {0.75, 0.5, 0.25} <= set(shares.tolist())
    assert shares.max() == 0.75
    # All together, from the same start, samples fall as they do alone.
    start = torch.zeros_like(inputs)
    _, together = attack.perturb(Linear(weight), Inputs.of(inputs), targets, start, task=task)
    alone = [
        attack.perturb(Linear(weight), Inputs.of(x), y, z, task=task)[1]
        for x, y, z in zip(inputs.split(1), targets.split(1), start.split(1), strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


def test_several_targets_by_name_and_inputs_by_name() -> None:
    class ByName(PerElement):
        name = "by-name"

        def loss(self, outputs: Tensor, targets: Mapping[str, Tensor]) -> Tensor:  # type: ignore[override]
            return super().loss(outputs, targets["signs"])

        def correct(self, outputs: Tensor, targets: Mapping[str, Tensor]) -> Tensor:  # type: ignore[override]
            return super().correct(outputs, targets["signs"])

    class Keyed(Linear):
        def forward(self, *, pixels: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(pixels) * gate

    generator = torch.Generator().manual_seed(0)
    weight, inputs = torch.randn(5, 4, generator=generator), torch.rand(30, 5, generator=generator)
    signs, gate = (inputs @ weight).sign(), torch.ones(30, 1)
    attack = steps_of(L2(0.3), 4, 0.1)
    named = run(Keyed(weight), Inputs(kwargs={"pixels": inputs, "gate": gate}), {"signs": signs}, attack, task=ByName())
    plain = run(Linear(weight), inputs, signs, attack, task=PerElement())
    assert torch.equal(named, plain)
    assert plain.mean() < 1


@pytest.mark.parametrize("evaluator", [Fgsm(epsilon=0.05), Pgd(epsilon=0.05), Apgd(epsilon=0.05)], ids=lambda e: e.name)
def test_of_a_segmentation_the_pixels_that_stay_right_are_counted(digits: Case, evaluator: Fgsm | Pgd | Apgd) -> None:
    """A linear model of each pixel alone: those fall whose margin is below epsilon times its slope."""

    class Pixels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([torch.zeros_like(x), 6 * (x - 0.5)], 1)

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 1, 7, 7, generator=generator) * 0.8 + 0.1
    targets = (images[:, 0] > 0.5).long()
    targets[:, 0] = 1 - targets[:, 0]  # the first row is wrong from the start
    targets[:6, 1] = -100  # of some, a row does not count
    counted, model = targets != -100, Pixels()
    right = (images[:, 0] > 0.5) == (targets == 1)
    stays = right & ((images[:, 0] - 0.5).abs() > 0.05) & counted
    case = digits.with_data(validation=Split.of_tensors(images, targets))
    found = case.measure(evaluator, model, task=Segmentation(), dense=model)["robust_accuracy"]
    assert found.value == pytest.approx(float(stays.sum() / counted.sum()), abs=1e-6)
    assert found.value < float((right & counted).sum() / counted.sum()) - 0.05
    assert found.samples == 12


@pytest.mark.parametrize("evaluator", [Pgd(epsilon=0.1), Fgsm(epsilon=0.1)], ids=lambda e: e.name)
def test_a_task_without_right_and_wrong_is_refused(digits: Case, evaluator: Pgd | Fgsm) -> None:
    with pytest.raises(TrialError, match="regression has nothing that is right or wrong; use loss"):
        digits.measure(evaluator, task=Regression())


def test_metric_and_label() -> None:
    (metric,) = Pgd(epsilon=0.1, label="strong").produces()
    assert (metric.name, metric.direction, metric.cost) == ("robust_accuracy_strong", "maximize", Cost.ATTACK)
