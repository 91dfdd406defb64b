from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import pytest

from autoprune.plugin import FrontPoint
from autoprune.report import front_figure, ratios_figure


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_front_figure_shows_axes_legend_and_members(synthetic, tmp_path, objectives):
    study = synthetic.study(tmp_path, objectives=objectives, constraints={"accuracy": ">= 0.6"})
    outcome = synthetic.outcome(study, synthetic.trials(24, bounds={"accuracy": 0.6}))
    shown = texts(front_figure(study, outcome))
    assert "accuracy (%), higher is better" in shown
    assert shown.count("latency (ms), lower is better") == (0, 1, 2)[objectives - 1]
    assert {"constraint", "breaks a constraint"} <= set(shown)
    assert f"synthetic: {len(outcome.front.points)} of 24 trials on the front" in shown
    if objectives > 1:
        assert {"front", "front on the test split", "dominated"} <= set(shown)
    # The dense model and the last rung of the ladder are far from all others, so they are named.
    assert "0" in shown


@pytest.mark.slow
def test_markers_stand_where_the_trials_are(synthetic, tmp_path):
    """Read the picture back: the test-split squares, in front order, run with the latencies."""
    study = synthetic.study(tmp_path)
    outcome = synthetic.outcome(study, synthetic.trials(24))
    root = ET.fromstring(front_figure(study, outcome))
    uses = [use for use in root.iter("{http://www.w3.org/2000/svg}use") if "#009e73" in (use.get("style") or "")]
    squares = {(float(use.get("x")), float(use.get("y"))) for use in uses if use.get("x")}
    squares = sorted(squares)[-len(outcome.front.points) :]
    assert len(squares) == len(outcome.front.points)
    latencies = sorted(p.test["latency_ms"].value for p in outcome.front.points)
    (left, right), (low, high) = (squares[0][0], squares[-1][0]), (latencies[0], latencies[-1])
    for (x, _), latency in zip(squares, latencies, strict=True):
        assert (x - left) / (right - left) == pytest.approx((latency - low) / (high - low), abs=1e-3)


def test_ratios_figure_shows_every_searched_group_and_pruned_member(synthetic, tmp_path):
    study = synthetic.study(tmp_path)
    outcome = synthetic.outcome(study, synthetic.trials(24))
    shown = texts(ratios_figure(study, outcome))
    assert set(synthetic.GROUPS) <= set(shown)
    assert "head" not in shown
    pruned = [p.trial for p in outcome.front.points if p.trial.origin != "dense"]
    for trial in pruned:
        assert any(str(trial.number) == text.split("\n")[0].strip() for text in shown) or str(trial.number) in shown
        for ratio in trial.achieved.values():
            assert f"{100 * ratio:.0f}" in shown


@pytest.mark.slow
def test_the_same_study_gives_the_same_bytes_in_another_process(synthetic, tmp_path):
    study = synthetic.study(tmp_path)
    outcome = synthetic.outcome(study, synthetic.trials(12))
    program = """
import sys
from autoprune.plugin import StudyInfo, StudyOutcome
from autoprune.plugin import FrontPoint
from autoprune.report import front_figure, ratios_figure
study, outcome = (c.model_validate_json(open(p).read()) for c, p in zip((StudyInfo, StudyOutcome), sys.argv[1:]))
sys.stdout.write(front_figure(study, outcome) + ratios_figure(study, outcome))
assert "matplotlib.pyplot" not in sys.modules
"""
    (tmp_path / "study.json").write_text(study.model_dump_json())
    (tmp_path / "outcome.json").write_text(outcome.model_dump_json())
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\n")
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "study.json", tmp_path / "outcome.json"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
    )  # fmt: skip
    assert done.stdout == front_figure(study, outcome) + ratios_figure(study, outcome)


@pytest.mark.slow
def test_the_users_settings_are_left_alone(synthetic, tmp_path):
    study = synthetic.study(tmp_path)
    outcome = synthetic.outcome(study, synthetic.trials(12))
    with mpl.rc_context({"font.size": 31.0, "svg.hashsalt": "mine"}):
        first = front_figure(study, outcome)
        assert mpl.rcParams["font.size"] == 31.0
        assert mpl.rcParams["svg.hashsalt"] == "mine"
    assert first == front_figure(study, outcome)


def test_odd_names_are_drawn_as_they_are(synthetic, tmp_path):
    groups = ("stage$1$_{2", "层.卷积", "a<b>&c", "x" * 300)
    study = synthetic.study(tmp_path, groups=groups)
    outcome = synthetic.outcome(study, synthetic.trials(12, groups=groups))
    assert set(groups) <= set(texts(ratios_figure(study, outcome)))


@pytest.mark.slow
def test_a_large_front_over_many_groups_is_drawn(synthetic, tmp_path):
    groups = tuple(f"layer{n}" for n in range(80))
    study = synthetic.study(tmp_path, groups=groups, objectives=3)
    trials = tuple(synthetic.trial(n, groups=groups) for n in range(30))
    outcome = synthetic.outcome(study, trials)
    everyone = tuple(FrontPoint(trial=trial) for trial in trials)
    outcome = outcome.model_copy(update={"front": outcome.front.model_copy(update={"points": everyone})})
    ET.fromstring(front_figure(study, outcome))
    assert "layer79" in texts(ratios_figure(study, outcome))


@pytest.mark.slow
def test_what_was_made_again_is_drawn_beside_what_it_was(synthetic, tmp_path):
    study = synthetic.study(tmp_path)
    plain = synthetic.outcome(study, synthetic.trials(12))
    again = synthetic.made_again(plain)
    shown = texts(front_figure(study, again))
    assert {"front as it was searched", "front on 1,000 of 10,000 test samples"} <= set(shown)
    assert "front as it was searched" not in texts(front_figure(study, plain))


@pytest.mark.slow
def test_a_front_of_the_dense_model_alone_is_drawn(synthetic, tmp_path):
    study = synthetic.study(tmp_path)
    outcome = synthetic.outcome(study, (synthetic.trial(0),))
    assert "front, dense model" in texts(front_figure(study, outcome))
    ET.fromstring(ratios_figure(study, outcome))


@pytest.mark.slow
def test_importing_the_report_loads_no_plotting():
    program = "import sys, autoprune.report; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path.cwd()).returncode == 0
