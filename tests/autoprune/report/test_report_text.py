from __future__ import annotations

import re

import pytest

from autoprune.plugin import Front, FrontPoint, Measured, StudyOutcome
from autoprune.report import markdown, named_member, number, verdict


@pytest.fixture
def study(synthetic, tmp_path):
    return synthetic.study(tmp_path)


@pytest.fixture
def ended(synthetic, study):
    """An outcome with a dense model of (accuracy .9, latency 10 ms) and a front of the given points."""

    def end(points, *, objectives=None, dense=(0.9, 10.0), test=False):
        trials = [synthetic.trial(0)] if dense else []
        trials += [synthetic.trial(20 + place) for place in range(len(points))]
        values = ([dense] if dense else []) + list(points)
        trials = [
            t.model_copy(update={"metrics": {"accuracy": Measured(value=a), "latency_ms": Measured(value=ms)}})
            for t, (a, ms) in zip(trials, values, strict=True)
        ]
        front = trials[1:] if dense else trials
        halved = [{k: Measured(value=m.value / 2) for k, m in t.metrics.items()} if test else {} for t in trials]
        return StudyOutcome(
            trials=tuple(trials),
            front=Front(
                points=tuple(FrontPoint(trial=t, test=halved[trials.index(t)]) for t in front),
                objectives=objectives or study.objectives,
                hypervolume=1.0,
                reference={"accuracy": 0.0, "latency_ms": 11.0},
            ),
            dense_test=halved[0] if dense else {},
        )

    return end


@pytest.mark.parametrize(
    ("points", "said"),
    [
        # The cheapest that keeps 95 %: .857 / .9 = 95.2 %.
        (
            [(0.89, 9.0), (0.857, 6.0), (0.80, 3.0)],
            "Trial 21 keeps 95.2 % of the dense model's accuracy at 60.0 % of its latency (validation split).",
        ),
        # None keeps 95 %: the one that keeps most.
        (
            [(0.70, 5.0), (0.50, 1.0)],
            "Trial 20 keeps 77.8 % of the dense model's accuracy at 50.0 % of its latency (validation split).",
        ),
    ],
)
def test_verdict_names_the_cheapest_that_keeps_95_percent(study, ended, points, said):
    assert verdict(study, ended(points)) == said


def test_verdict_is_on_the_test_split_where_that_was_measured(study, ended):
    said = verdict(study, ended([(0.89, 9.0), (0.88, 6.0)], test=True))
    assert said == "Trial 21 keeps 97.8 % of the dense model's accuracy at 60.0 % of its latency (test split)."


def test_verdict_takes_a_measured_ratio_before_dividing(study, ended):
    """A ratio measured in turn with the dense model survives a machine that is busy for a while."""
    study = study.model_copy(update={"units": study.units | {"latency_ratio": "fraction of dense"}})
    outcome = ended([(0.88, 12.0)])
    trial = outcome.front.points[0].trial
    trial = trial.model_copy(update={"metrics": trial.metrics | {"latency_ratio": Measured(value=0.7)}})
    front = outcome.front.model_copy(update={"points": (FrontPoint(trial=trial),)})
    said = verdict(study, outcome.model_copy(update={"front": front}))
    assert said == "Trial 20 keeps 97.8 % of the dense model's accuracy at 70.0 % of its latency (validation split)."


def test_verdict_says_on_how_many_test_samples_it_rests(synthetic, study):
    outcome = synthetic.made_again(synthetic.outcome(study, synthetic.trials(20)))
    assert verdict(study, outcome).endswith(" (1,000 of 10,000 test samples).")
    named = named_member(study, outcome).trial.number
    on_all = synthetic.whole(outcome, named)
    kept = named_member(study, on_all).whole_test["accuracy"].value / outcome.dense_whole_test["accuracy"].value
    said = verdict(study, on_all)
    assert said.startswith(f"Trial {named} keeps {100 * kept:.1f} % of the dense model's accuracy at")
    assert said.endswith(" (test split).")


def test_report_tells_what_was_made_again_and_on_which_samples_it_was_tested(synthetic, study):
    plain = synthetic.outcome(study, synthetic.trials(20))
    text = markdown(study, plain)
    assert ", searched |" not in text
    assert "whole test" not in text
    outcome = synthetic.made_again(plain)
    outcome = synthetic.whole(outcome, number := named_member(study, outcome).trial.number)
    text = markdown(study, outcome)
    assert "| accuracy | accuracy, searched | accuracy, test | accuracy, whole test |" in text
    assert "made again by the final version of their strategy, such as a larger repair" in text
    assert "*Test* is of 1,000 of 10,000 test samples, the same for every model" in text
    (row,) = re.findall(rf"^\| {number} \|.*", text, flags=re.MULTILINE)
    (point,) = [p for p in outcome.front.points if p.trial.number == number]
    values = [point.trial.metrics, point.searched, point.test, point.whole_test]
    assert [cell.split(" %")[0] for cell in row.split(" | ")[1:5]] == [
        f"{100 * v['accuracy'].value:.1f}" for v in values
    ]
    (dense,) = re.findall(r"^\| 0 \(dense\) \|.*", text, flags=re.MULTILINE)
    assert dense.split(" | ")[2] == "-", "it is what it was"


def test_verdict_without_a_dense_model(study, ended):
    said = verdict(study, ended([(0.89, 9.0), (0.86, 6.0)], dense=None))
    assert said == "Trial 21 has accuracy 86.0 % and latency 6 (validation split)."


def test_verdict_of_one_minimised_objective(study, ended):
    said = verdict(study, ended([(0.5, 4.0)], objectives={"latency_ms": "minimize"}))
    assert said == "Trial 20 has 40.0 % of the dense model's latency (validation split)."


def test_verdict_when_only_the_dense_model_is_left(synthetic, study):
    outcome = synthetic.outcome(study, (synthetic.trial(0), synthetic.trial(1, state="rejected")))
    assert verdict(study, outcome) == "No pruned model beats the dense one: it is the front's only member."


def test_verdict_when_every_pruned_trial_failed(synthetic, study):
    failed = [synthetic.trial(n, state="failed") for n in (1, 2)]
    outcome = synthetic.outcome(study, (synthetic.trial(0), *failed))
    assert verdict(study, outcome) == "No pruned model came through: 2 of 2 failed."


def test_verdict_when_nothing_is_feasible_says_why(synthetic, study):
    bounds = {"accuracy": 0.99}
    broken = [synthetic.trial(n, bounds=bounds) for n in range(3)]
    trials = (*broken, synthetic.trial(3, state="failed"), synthetic.trial(4, state="rejected"))
    said = verdict(study, synthetic.outcome(study, trials))
    assert said == "No feasible trial among 5: 1 failed, 1 rejected and 3 broke a constraint."


def test_report_leads_with_the_verdict_and_tells_all(synthetic, tmp_path):
    study = synthetic.study(tmp_path, trials=40, constraints={"accuracy": ">= 0.8"})
    outcome = synthetic.outcome(study, synthetic.trials(30)).model_copy(update={"interrupted": True})
    text = markdown(study, outcome)
    paragraphs = text.split("\n\n")
    assert paragraphs[0] == "# synthetic"
    assert paragraphs[1] == f"**{verdict(study, outcome)}**"
    assert paragraphs[2].startswith("- **Safest")
    assert "30 of 40 trials: 28 complete, 1 failed, 1 rejected." in paragraphs[3]
    assert "interrupted" in paragraphs[3]
    assert "Constraints: accuracy >= 0.8." in paragraphs[3]
    assert "| 8 | failed | CUDA out of memory \\| tried 2 GiB Traceback … |" in text
    assert "| 11 | rejected | macs 4.1e+07 breaks <= 3e7 |" in text
    assert "| torch | 2.13.0 |" in text
    for point in outcome.front.points:
        value, test = point.trial.metrics["accuracy"], point.test["accuracy"]
        said = [f"{100 * m.value:.1f} % ({100 * m.low:.1f} to {100 * m.high:.1f})" for m in (value, test)]
        assert f"| {' | '.join(said)} |" in text
    # Trial 1 was asked for 15 % of 16 units, which is 2 of them.
    assert "12.5 % (15.0 %)" in text
    assert "`head`" not in text, "a group that was not searched has no ratio"


def test_report_tells_what_else_was_chosen(synthetic, study):
    plain = synthetic.outcome(study, synthetic.trials(12))
    assert "## Knobs" not in markdown(study, plain)
    knobs = {"strategy": "gradual", "strategy.lr": 0.0123456789}
    trials = tuple(t.model_copy(update={"knobs": knobs if t.number else {}}) for t in plain.trials)
    text = markdown(study, synthetic.outcome(study, trials))
    count = sum(p.trial.number > 0 for p in plain.front.points)
    assert "| `strategy.lr` |" + " 0.0123457 |" * count in text
    assert "| `strategy` |" + " gradual |" * count in text


def test_tables_of_the_report_are_rectangular(synthetic, tmp_path):
    study = synthetic.study(tmp_path, objectives=3, groups=("a|b", "c"))
    outcome = synthetic.outcome(study, synthetic.trials(30, groups=("a|b", "c")))
    blocks = re.findall(r"(?:^\|.*\n)+", markdown(study, outcome), flags=re.MULTILINE)
    assert len(blocks) == 4
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.9612, "fraction", "96.1 %"),
        (0.5, "fraction of dense", "50.0 %"),
        (269_722, "parameters", "269.7 k"),
        (40_900_000, "multiply-accumulates", "40.9 M"),
        (2.5e9, "multiply-accumulates", "2.5 G"),
        (3.14159, "ms", "3.14"),
        (1234.5, "ms", "1234"),
        (0.0, "nats", "0"),
        (float("nan"), "ms", "-"),
    ],
)
def test_numbers_are_short(value, unit, said):
    assert number(value, unit) == said


def test_members_that_nothing_measured_tells_apart_are_named(study, ended):
    outcome = ended([(0.90, 9.0), (0.88, 6.0), (0.70, 3.0)])
    widths = {"accuracy": 0.02, "latency_ms": 0.0}

    def with_ends(point, name, measured):
        if name == "latency_ms":
            return measured  # exact
        return measured.model_copy(update={"low": measured.value - widths[name], "high": measured.value + widths[name]})

    points = tuple(
        p.model_copy(
            update={
                "trial": p.trial.model_copy(
                    update={"metrics": {name: with_ends(p, name, m) for name, m in p.trial.metrics.items()}}
                )
            }
        )
        for p in outcome.front.points
    )
    outcome = outcome.model_copy(update={"front": outcome.front.model_copy(update={"points": points})})
    # .90 and .88 differ by less than the .028 that two errors of .02 come to; .70 is far from both.
    assert outcome.front.alike() == {20: (21,), 21: (20,), 22: ()}
    text = markdown(study, outcome)
    header = next(line for line in text.splitlines() if line.startswith("| trial"))
    column = header.split("|").index(" alike ")
    told = {
        row.split("|")[1].strip(): row.split("|")[column].strip() for row in text.splitlines() if row.startswith("| 2")
    }
    assert told == {"20": "21", "21": "20", "22": "-"}
    assert "*Alike* are members" in text
    assert "*Alike*" not in markdown(study, ended([(0.90, 9.0), (0.88, 6.0)]))  # no intervals, nothing to say
