"""A study that begins with what an earlier one found."""

from __future__ import annotations

import logging
import shutil

import pytest

from autoprune.errors import SpecError, StudyError
from autoprune.host.plugins import PluginHost
from autoprune.study import resume, search
from autoprune.study.folder import JOURNAL_FILE, StudyFolder
from autoprune.study.recorded import StoredStudy
from autoprune.study.warm_start import WARM_START_FILE

pytestmark = pytest.mark.slow


def stored(path):
    folder = StudyFolder.open(path)
    return StoredStudy(folder.name, spec=folder.spec(PluginHost()), journal=path / JOURNAL_FILE, mode="read")


def probes(path):
    return [effect.cut for probed in stored(path).probed for effect in probed.effects]


@pytest.fixture
def earlier(spec, host, tmp_path):
    """An earlier study of the toy, by a sampler that wants probes."""
    return search(
        spec("search.sampler={use: toy-profiled}", f"output={tmp_path / 'earlier'}", "search.trials=8"), host=host
    )


@pytest.fixture
def warm(spec, tmp_path):
    """A spec that begins with it."""

    def make(*overrides):
        ours = ("search.sampler={use: toy-profiled}", "search.trials=14", "search.warm_start=earlier")
        return spec(*ours, f"output={tmp_path / 'later'}", *overrides)

    return make


def test_what_the_earlier_front_chose_comes_after_the_ladder_and_is_measured_again(earlier, warm, host):
    told = []
    result = search(warm(), host=host, tell=told.append)
    members = {point.trial.number: point.trial for point in earlier.front.points if point.trial.origin != "dense"}
    origins = [trial.origin for trial in result.outcome.trials]
    begun = 3 + len(members)
    assert origins == ["dense", "ladder", "ladder"] + ["warm-start"] * len(members) + ["sampler"] * (14 - begun)
    again = {tuple(trial.ratios.items()): trial for trial in result.outcome.trials[3:begun]}
    assert again.keys() == {tuple(member.ratios.items()) for member in members.values()}
    for member in members.values():
        assert again[tuple(member.ratios.items())].metrics["distance"] == member.metrics["distance"]
    assert result.front.hypervolume >= earlier.front.hypervolume
    assert any(f"{len(members)} candidates and 6 probes of " in line for line in told)


def test_probes_are_made_once_in_both_studies(earlier, warm, host, tmp_path):
    search(warm(), host=host)
    first, second = probes(tmp_path / "earlier"), probes(tmp_path / "later")
    assert len(first) == 6
    assert sorted(second, key=str) == sorted(first, key=str)
    assert len(stored(tmp_path / "later").probed) == 1, "all of them were taken over at once"


@pytest.mark.parametrize(
    "changed",
    ["model.wide=12", "scorer={use: toy-scorer, power: 2}", "strategy={use: toy-strategy, noise: 0.1}"],
)
def test_probes_of_another_model_scorer_or_strategy_are_made_anew(earlier, warm, host, changed, tmp_path):
    told = []
    search(warm(changed, "search.trials=11"), host=host, tell=told.append)
    assert any("candidates of" in line for line in told)
    assert len(probes(tmp_path / "later")) == 6


def test_probes_of_weights_that_changed_since_are_made_anew(earlier, warm, host, tmp_path):
    file = tmp_path / "earlier" / "info.json"
    print_before = StudyFolder.open(tmp_path / "earlier").read_info(earlier.study.spec).environment["fingerprint"]
    file.write_text(file.read_text().replace(print_before, "0" * 32))
    told = []
    search(warm(), host=host, tell=told.append)
    assert any("candidates of" in line for line in told)


def test_candidates_are_brought_within_the_bounds(earlier, warm, host):
    bounds = ("search_space.groups.wide.high=0.25", "search_space.groups.narrow=keep")
    result = search(warm(*bounds, "search.sampler={use: toy-genetic}"), host=host)
    begun = [trial for trial in result.outcome.trials if trial.origin == "warm-start"]
    assert begun
    assert max(trial.ratios["wide"] for trial in begun) == 0.25
    assert {trial.ratios["narrow"] for trial in begun} == {0.0}


def test_a_study_that_has_begun_needs_the_earlier_one_no_more(earlier, warm, host, tmp_path):
    whole = search(warm(), host=host)
    shutil.move(tmp_path / "later", tmp_path / "whole")
    search(warm("search.trials=4"), host=host)
    shutil.rmtree(tmp_path / "earlier")
    result = resume(tmp_path / "later", trials=14, host=host)
    assert [trial.ratios for trial in result.outcome.trials] == [trial.ratios for trial in whole.outcome.trials]


def test_a_study_that_was_killed_before_it_began_looks_at_the_earlier_one_again(earlier, warm, host, tmp_path):
    spec = warm()
    StudyFolder.create(spec, host)
    assert not (tmp_path / "later" / WARM_START_FILE).exists()
    result = resume(tmp_path / "later", host=host)
    assert "warm-start" in [trial.origin for trial in result.outcome.trials]


def test_what_the_study_began_with_may_be_damaged(earlier, warm, host, tmp_path):
    search(warm(), host=host)
    (tmp_path / "later" / WARM_START_FILE).write_text("{")
    with pytest.raises(StudyError, match=r"warm_start\.json is malformed"):
        resume(tmp_path / "later", trials=20, host=host)


def test_too_few_trials_are_warned_of(earlier, warm, host, caplog):
    with caplog.at_level(logging.WARNING, "autoprune"):
        search(warm("search.trials=4"), host=host)
    assert "leaves none for the search itself" in caplog.text


def test_no_study_there_is_a_mistake_at_its_line(spec, host, tmp_path):
    text = "trials: 12, warm_start: nowhere"
    with pytest.raises(SpecError, match=r"spec\.yaml:9:51: search\.warm_start: .*nowhere holds no study"):
        search(spec(swap=("trials: 12", text)), host=host)
    assert not (tmp_path / "study").exists()


def test_a_study_of_another_network_is_a_mistake(earlier, warm, host, tmp_path):
    info = tmp_path / "earlier" / JOURNAL_FILE
    info.write_text(info.read_text().replace('"wide"', '"other"').replace('"narrow"', '"another"'))
    with pytest.raises(SpecError, match=r"has no group of this model: its groups are other, another, …; here they are"):
        search(warm(), host=host)
