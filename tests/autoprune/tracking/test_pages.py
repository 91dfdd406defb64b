"""What MLflow's own pages show of a study. Needs Chromium; without one these tests are skipped."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from autoprune.report import verdict

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1600,1400 --virtual-time-budget=10000 --dump-dom"
).split()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]


@pytest.fixture
def page(tmp_path):
    """The page's document after its scripts have run."""

    def load(url):
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", url]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return load


def test_the_printed_links_show_the_trials_the_verdict_and_the_models(
    synthetic, with_models, tracker, page, server, tmp_path
):
    study = synthetic.study(tmp_path / "study", uri=server.uri, objectives=3, trials=6)
    results = with_models(study, synthetic.trials(6))
    facts = tracker.autoprune_study_started(study)
    for result in results:
        tracker.autoprune_trial_finished(study, result)
    outcome = synthetic.outcome(study, results)
    tracker.autoprune_study_finished(study, outcome)

    view = page(facts["view"])
    assert "Trade-offs" in view, "the saved view was applied"
    assert "No charts in this section" not in view
    shown = set(re.findall(r">trial (\d+)\b", view))
    assert shown >= {str(result.number) for result in results}

    table = page(facts["view"].replace("compareRunsMode=CHART&", ""))
    for column in ("objective/latency_ms", "objective/accuracy", "test/accuracy", "other/macs"):
        assert f">{column}<" in table

    run = page(facts["url"])
    assert verdict(study, outcome) in run
    assert "study/hypervolume" in run

    figure = page(facts["url"].replace("?", "/artifacts/front.svg?"))
    assert re.search(r"<img[^>]+front\.svg|<img[^>]+blob:", figure)

    models = page(re.sub(r"/runs.*", "/models?workflowType=machine_learning", facts["view"]))
    members = {f"study-trial-{point.trial.number}" for point in outcome.front.points}
    assert set(re.findall(r">(study-trial-\d+)<", models)) == members
    (identity,) = set(re.findall(rf"/models/(m-\w+)[^>]*>(?:<[^>]*>)*{max(members)}<", models))
    model = page(re.sub(r"/runs.*", f"/models/{identity}?workflowType=machine_learning", facts["view"]))
    assert "mlflow.pyfunc.load_model" in model
    assert "test/latency_ms" in model
    assert "Register model" in model
