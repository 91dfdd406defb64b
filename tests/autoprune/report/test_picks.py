"""The members that a report names first: made-up studies, and what each must say."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.plugin import Difference, Front, FrontPoint, Measured, StudyOutcome
from autoprune.report import markdown, picked_markdown, picks, verdict

OBJECTIVES = {"accuracy": "maximize", "latency_ms": "minimize"}
DENSE = (0.90, 0.02, 10.0, 0.5)


def measured(value: float, half: float, *, of: float | None = None) -> Measured:
    """With an interval, and as wide a one around its difference from the dense model's."""
    difference = None if of is None else Difference(value=value - of, low=value - of - half, high=value - of + half)
    return Measured(value=value, low=value - half, high=value + half, samples=400, difference=difference)


@pytest.fixture
def ended(synthetic, tmp_path: Path):
    """A study whose dense model has an accuracy of .90 and 10 ms, and a front of (accuracy, half, ms, half)."""
    study = synthetic.study(tmp_path)

    def end(*points: tuple[float, float, float, float], broken: bool = False):
        values = [DENSE, *points]
        trials = [
            synthetic.trial(number).model_copy(
                update={
                    "metrics": {
                        "accuracy": measured(accuracy, half, of=DENSE[0] if number else None),
                        "latency_ms": measured(ms, spread, of=DENSE[2] if number else None),
                    },
                    "violations": {"accuracy": 0.1} if broken else {},
                }
            )
            for number, (accuracy, half, ms, spread) in enumerate(values)
        ]
        front = Front(
            points=() if broken else tuple(FrontPoint(trial=trial) for trial in trials[1:]),
            objectives=OBJECTIVES,
            hypervolume=1.0,
            reference={"accuracy": 0.0, "latency_ms": 11.0},
        )
        return study, StudyOutcome(trials=tuple(trials), front=front)

    return end


def named(study, outcome) -> dict[str, int]:
    return {name: pick.point.trial.number for pick in picks(study, outcome) for name in pick.names}


def test_three_members_by_three_rules(ended) -> None:
    safe, cheaper, worse = (0.90, 0.01, 9.0, 0.1), (0.89, 0.02, 8.0, 0.1), (0.86, 0.01, 4.0, 0.1)
    half, useless = (0.50, 0.02, 2.0, 0.1), (0.1, 0.02, 1.0, 0.1)
    found = ended(safe, cheaper, worse, half, useless)
    assert named(*found) == {"safest": 2, "balanced": 3, "smallest": 4}
    text = picked_markdown(*found)
    assert text.splitlines()[0].startswith(
        "- **Safest**, the cheapest member that nothing measured shows to be worse than the dense model: Trial 2 keeps"
        " 98.9 % of the dense model's accuracy at 80.0 % of its latency"
    )
    assert "Accuracy -1.0 (-3.0 to 1.0) against the dense model's, not distinguishable from it." in text
    assert "Accuracy -4.0 (-5.0 to -3.0) against the dense model's." in text
    assert text in markdown(*found)
    assert verdict(*found).startswith("Trial 3 keeps"), "the verdict is of the balanced one"


def test_one_member_may_be_all(ended) -> None:
    found = ended((0.95, 0.01, 3.0, 0.1))
    assert named(*found) == {"safest": 1, "balanced": 1, "smallest": 1}
    assert picked_markdown(*found).startswith("- **Safest, balanced and smallest**, the cheapest member")
    assert "Accuracy +5.0 (4.0 to 6.0) against the dense model's." in picked_markdown(*found)


def test_where_every_member_is_surely_worse_none_is_safe(ended) -> None:
    assert named(*ended((0.87, 0.01, 5.0, 0.1), (0.70, 0.01, 2.0, 0.1))) == {"balanced": 1, "smallest": 2}


def test_where_less_than_half_is_left_none_is_the_smallest(ended) -> None:
    assert named(*ended((0.40, 0.01, 1.0, 0.1))) == {"balanced": 1}


def test_a_noisy_accuracy_does_not_make_a_model_worse(ended) -> None:
    assert named(*ended((0.80, 0.15, 5.0, 0.1)))["safest"] == 1


def test_no_member_but_the_dense_model_is_no_pick(ended) -> None:
    study, outcome = ended()
    assert picks(study, outcome) == ()
    assert picked_markdown(study, outcome) == ""


def test_a_constraint_that_all_break_leaves_nothing(ended) -> None:
    study, outcome = ended((0.9, 0.01, 5.0, 0.1), broken=True)
    assert picks(study, outcome) == ()
    assert verdict(study, outcome).startswith("No feasible trial among 2: 2 broke a constraint")
    assert "**Safest**" not in markdown(study, outcome)


def test_the_test_split_decides_where_it_was_measured(ended) -> None:
    study, outcome = ended((0.90, 0.01, 5.0, 0.1))
    (point,) = outcome.front.points
    test = {"accuracy": measured(0.80, 0.01, of=0.9), "latency_ms": measured(5.0, 0.1, of=10.0)}
    dense_test = {"accuracy": measured(0.9, 0.02), "latency_ms": measured(10.0, 0.5)}
    front = outcome.front.model_copy(update={"points": (point.model_copy(update={"test": test}),)})
    outcome = outcome.model_copy(update={"front": front, "dense_test": dense_test})
    assert "safest" not in named(study, outcome)
