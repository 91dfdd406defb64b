"""What MLflow's own pages show of a study of 500 trials, in a real browser.

With ``AUTOPRUNE_SCREENSHOTS=docs`` the pictures of the documentation are made anew.
"""

from __future__ import annotations

import functools
import html
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from autoprune.report import named_member, verdict
from autoprune.tracking import _MlflowTracker
from autoprune.tracking._store import quietly

OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=15000"
).split()
TRIALS = 500
COLOURS = {"front": "rgb(0, 114, 178)", "dense": "rgb(0, 0, 0)"}

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """The page's document after its scripts have run."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert chromium, "no chromium is installed"
    profile = tmp_path_factory.mktemp("profile")
    pictures = os.environ.get("AUTOPRUNE_SCREENSHOTS")

    def look(url, *options):
        command = [chromium, *OPTIONS, f"--user-data-dir={profile}", *options, url]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    @functools.cache
    def browse(url, *, until="", picture=None, width=1600):
        if picture and pictures:
            file = Path(pictures).absolute() / picture
            look(url, "--window-size=1600,1200", f"--screenshot={file}")
            crop(file, width)
        for _ in range(3):  # on a busy machine the time that scripts are given may be over before all has come
            page = look(url, "--window-size=1600,2600", "--dump-dom")
            if until in page:
                break
        return page

    return browse


def crop(file, width):
    """Leave out what is to the right, and store it small."""
    from PIL import Image

    with Image.open(file) as picture:
        part = picture.convert("RGB").crop((0, 0, width, picture.height)).quantize(256)
    part.save(file, optimize=True)


@pytest.fixture(scope="module")
def shown(synthetic, with_models, _server, tmp_path_factory):
    """The study, recorded by way of a server, with the models of two members, and what was printed."""
    _server.start()
    study = synthetic.study(tmp_path_factory.mktemp("runs") / "study", uri=_server.uri, objectives=3, trials=TRIALS)
    results = synthetic.trials(TRIALS)
    named = named_member(study, synthetic.outcome(study, results)).trial.number
    modelled = {r.number: r for r in with_models(study, [results[0], results[named]])}
    results = tuple(modelled.get(result.number, result) for result in results)
    outcome = synthetic.outcome(study, results)
    tracker = _MlflowTracker()
    facts = tracker.autoprune_study_started(study)
    for result in results:
        tracker.autoprune_trial_finished(study, result)
    tracker.autoprune_study_finished(study, outcome)
    with quietly():
        from mlflow import MlflowClient

        client = MlflowClient(_server.uri)
        query = f"tags.mlflow.parentRunId = '{facts['run_id']}' and tags.autoprune.trial = '{named}'"
        (member,) = client.search_runs([facts["experiment_id"]], query)
    return SimpleNamespace(study=study, outcome=outcome, facts=facts, named=named, member=member, client=client)


@pytest.fixture(scope="module")
def front(shown):
    """Trials on the front, and the dense model."""
    return {0, *(point.trial.number for point in shown.outcome.front.points)}


def charts(page):
    """Colours of the points of each scatter plot."""
    plots = page.split('class="scatterlayer')[1:]
    return [re.findall(r'<path class="point [^>]*[ "]fill: (rgb\([^)]*\))', plot) for plot in plots]


def words(page):
    """What is to be read."""
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))


def test_the_printed_link_shows_the_whole_front_and_the_dense_model(shown, front, browse):
    page = browse(shown.facts["view"], until='class="point ', picture="mlflow_view.png", width=1185)
    assert 30 < len(front) < 100
    assert f"{len(front)} matching runs" in words(page)
    assert {int(number) for number in re.findall(r">trial (\d+)\b", page)} == front
    assert len(charts(page)) == 3, "a chart for each pair of objectives"
    for colours in charts(page):
        assert sorted(set(colours)) == sorted(COLOURS.values())
        assert (colours.count(COLOURS["front"]), colours.count(COLOURS["dense"])) == (len(front) - 1, 1)
    for title in ("Trade-offs (4)", "objective/latency_ms vs. objective/accuracy", "front · study"):
        assert title in words(page), "titles are whole"


def test_the_description_of_the_experiment_has_verdict_colours_and_links(shown, front, browse):
    page = browse(shown.facts["view"])
    assert f"study: {verdict(shown.study, shown.outcome)}" in words(page)
    for told in (
        "blue is on the Pareto front",
        "black the dense model",
        "orange one ratio",
        "red failed",
        "pink rejected early",
    ):
        assert told in words(page)
    links = dict(re.findall(r'<a target="_blank" href="#([^"]+)">(all trials|front|the study)</a>', page))
    links = {name: f"{shown.facts['view'].partition('#')[0]}#{html.unescape(link)}" for link, name in links.items()}
    assert links["front"] == shown.facts["view"]
    assert links["the study"] == shown.facts["url"]
    everything = browse(links["all trials"])
    assert "100 matching runs" in words(everything)
    assert "100 of 500 trials · study" in words(everything), "that it is a part is said"
    assert {int(number) for number in re.findall(r">trial (\d+)\b", everything)} - front, "others, too"


def test_the_page_of_the_study_says_what_came_of_it(shown, browse):
    told = words(browse(shown.facts["url"]))
    places = [
        told.index(text)
        for text in (
            f"Description {verdict(shown.study, shown.outcome)}",
            "Safest",
            "hypervolume 1.234 against accuracy 0.0 %",
            "500 of 500 trials: 498 complete, 1 failed, 1 rejected.",
            "1 failed, such as trial 8: CUDA out of memory",
            f'pruned = autoprune.load_pruned("runs:/{shown.member.info.run_id}/study-trial-{shown.named}")',
            "report.html",
        )
    ]
    assert places == sorted(places)


def test_the_page_of_a_member_begins_with_objectives_and_says_how_to_load_it(shown, browse):
    url = shown.facts["url"].replace(shown.facts["run_id"], shown.member.info.run_id)
    page = browse(url)
    told = words(page)
    metrics, parameters = told[told.index("Metrics (") :].split("Parameters (")
    sections = [re.findall(r"\b([a-z_]+)/", part) for part in (metrics, parameters)]  # no end of a run's number
    assert [list(dict.fromkeys(some)) for some in sections] == [
        ["objective", "other", "uncertainty", "test"],
        ["ratio", "achieved", "seconds"],
    ]
    assert max(map(len, re.findall(r"\d\.(\d+)", metrics))) <= 6, "values are rounded"
    assert "dense, validation validation dense, test test accuracy" in told
    assert f'autoprune.load_pruned("runs:/{shown.member.info.run_id}/study-trial-{shown.named}")' in told
    assert f'mlflow.pyfunc.load_model("runs:/{shown.member.info.run_id}/study-trial-{shown.named}")' in told


def test_the_report_is_an_artifact_whose_script_runs(shown, front, browse, tmp_path):
    page = browse(shown.facts["url"].replace("?", "/artifacts/report.html?"))
    assert re.search(r'<iframe[^>]+sandbox="[^"]*allow-scripts', page)
    with quietly():
        file = shown.client.download_artifacts(shown.facts["run_id"], "report.html", str(tmp_path))
    drawn = browse(Path(file).as_uri(), picture="report.png")
    marks = re.compile(r'<circle[^>]+data-trial="(\d+)"')
    assert {int(number) for number in marks.findall(drawn)} >= front
    assert not marks.findall(Path(file).read_text(encoding="utf-8")), "it is the script that draws"


def test_members_are_models(shown, browse):
    models = browse(re.sub(r"/runs.*", "/models?workflowType=machine_learning", shown.facts["view"]))
    name = f"study-trial-{shown.named}"
    assert set(re.findall(r">(study-trial-\d+)<", models)) == {"study-trial-0", name}
    (identity,) = set(re.findall(rf"/models/(m-\w+)[^>]*>(?:<[^>]*>)*{name}<", models))
    model = browse(re.sub(r"/runs.*", f"/models/{identity}?workflowType=machine_learning", shown.facts["view"]))
    assert "mlflow.pyfunc.load_model" in model
    assert "test/latency_ms" in model
    assert "Register model" in model
