"""What a result shows of itself, and which of its models it picks."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from autoprune import SearchResult, StudyError
from autoprune.plugin import Measured
from autoprune.report import verdict
from tests.autoprune.report import synthetic


@pytest.fixture
def result(tmp_path: Path) -> SearchResult:
    return made(tmp_path)


def made(folder: Path, *, objectives: int = 2, **facts: str) -> SearchResult:
    study = synthetic.study(folder / "runs" / "synthetic-1", objectives=objectives)
    study.folder.mkdir(parents=True)
    return SearchResult(study, synthetic.outcome(study, synthetic.trials()), facts)


class Page(HTMLParser):
    """Tags with their attributes, and the cells of each row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and self.tags[-1][0] in ("td", "th"):
            self.rows[-1][-1] += data


def test_its_repr_is_one_short_line(result: SearchResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(result.study.folder.parents[1])
    count = len(result.front.points)
    assert repr(result) == (
        "SearchResult(synthetic: 24 trials (22 complete, 1 failed, 1 rejected), "
        f"front of {count}, hypervolume 1.234, in runs/synthetic-1)"
    )
    stopped = SearchResult(result.study, result.outcome.model_copy(update={"interrupted": True}))
    assert ", interrupted, front of" in repr(stopped)


def test_a_point_tells_its_trial_and_metrics(result: SearchResult) -> None:
    point = result.front.points[0]
    accuracy = float(f"{point.trial.metrics['accuracy'].value:.4g}")
    assert repr(point).startswith(f"FrontPoint(trial={point.trial.number}, accuracy={accuracy}, latency_ms=")
    assert len(repr(point)) < 160


def test_a_cell_shows_the_dense_model_and_the_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = made(tmp_path, url="http://127.0.0.1:5000/#/experiments/1?a=b&c=d")
    (result.study.folder / "report.md").write_text("report")
    page = Page(result._repr_html_())
    head, dense, *members = page.rows
    assert head == ["trial", "", "accuracy", "accuracy, test", "latency (ms)", "latency (ms), test", "cut"]
    assert dense[:2] == ["0", "dense"]
    numbers = [str(point.trial.number) for point in result.front.points]
    assert [dense[0], *(row[0] for row in members)] == numbers if "0" in numbers else ["0", *numbers]
    for row, point in zip([dense, *members][-len(numbers) :], result.front.points, strict=True):
        assert row[2] == f"{100 * point.trial.metrics['accuracy'].value:.1f} %"
        assert row[3] == f"{100 * point.test['accuracy'].value:.1f} %"
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert links == {
        "runs/synthetic-1",
        "runs/synthetic-1/report.md",
        "http://127.0.0.1:5000/#/experiments/1?a=b&c=d",
    }


def test_a_cell_holds_no_script_and_nothing_unescaped(tmp_path: Path) -> None:
    result = made(tmp_path, url="javascript:alert(1)")
    study = result.study.model_copy(update={"name": "<script>alert(2)</script>"})
    text = SearchResult(study, result.outcome, result.facts)._repr_html_()
    assert "<script" not in text
    assert "javascript:" not in text
    assert not re.search(r"\ssrc=|@import|\son\w+=", text)


def pixels(figure: Any) -> Image.Image:
    import io

    return Image.open(io.BytesIO(figure._repr_png_())).convert("RGB")


def test_its_plot_is_a_figure_that_a_cell_shows(result: SearchResult) -> None:
    from matplotlib.figure import Figure

    figure = result.plot()
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "latency (ms), lower is better"
    assert axes.get_ylabel() == "accuracy (%), higher is better"
    image = pixels(figure)
    assert image.size[0] > 400
    assert len(image.getcolors(100_000) or ()) > 10, "something is drawn"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        ({"x": "accuracy"}, ("accuracy (%), higher is better", "latency (ms), lower is better")),
        ({"y": "latency_ms"}, ("accuracy (%), higher is better", "latency (ms), lower is better")),
        ({"x": "macs", "y": "accuracy"}, ("macs (multiply-accumulates)", "accuracy (%), higher is better")),
        ({"x": "macs"}, ("macs (multiply-accumulates)", "accuracy (%), higher is better")),
    ],
)
def test_it_plots_the_metrics_that_are_asked_for(
    asked: dict[str, str], labels: tuple[str, str], result: SearchResult
) -> None:
    (axes,) = result.plot(**asked).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == labels
    numbers = {text.get_text() for text in axes.texts}
    assert numbers <= {str(point.trial.number) for point in result.front.points}
    assert numbers


@pytest.mark.slow
def test_three_objectives_are_three_panels(tmp_path: Path) -> None:
    assert len(made(tmp_path, objectives=3).plot().axes) == 3


def test_a_metric_that_is_not_there_is_named(result: SearchResult, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no trial has a metric 'acuracy'; did you mean 'accuracy'"):
        result.plot("acuracy")
    with pytest.raises(StudyError, match="there is one objective alone; say what y is"):
        made(tmp_path / "one", objectives=1).plot(x="accuracy")


def test_the_best_of_an_objective_within_bounds(result: SearchResult) -> None:
    points = result.front.points

    def value(point: Any, name: str) -> float:
        measured: Measured = point.trial.metrics[name]
        return measured.value

    assert value(result.select(maximize="accuracy"), "accuracy") == max(value(p, "accuracy") for p in points)
    assert value(result.select(minimize="latency_ms"), "latency_ms") == min(value(p, "latency_ms") for p in points)
    middle = sorted(value(p, "latency_ms") for p in points)[len(points) // 2]
    chosen = result.select(f"latency_ms <= {middle}", "macs>=1", maximize="accuracy")
    expected = [p for p in points if value(p, "latency_ms") <= middle]
    assert 0 < len(expected) < len(points)
    assert chosen == max(expected, key=lambda p: value(p, "accuracy"))


@pytest.mark.parametrize(
    ("where", "best", "message"),
    [
        ((), {"maximize": "acuracy"}, "no trial has a metric 'acuracy'; did you mean 'accuracy'?"),
        (("mac <= 1",), {"maximize": "accuracy"}, "no trial has a metric 'mac'; did you mean 'macs'?"),
        (("macs < 3",), {}, 'macs: write a bound as ">= 0.80", "<= 1e6" or'),
        (("macs",), {}, 'macs: write a bound as ">= 0.80", "<= 1e6" or'),
        (("small",), {}, "small: write a bound as"),
        (("<= 3",), {}, "<= 3: write a bound as|no trial has a metric ''"),
        (("latency_ms <= 0.1",), {}, r"no point has latency_ms <= 0.1: it is \d\.\d+ to \d\.\d+"),
        ((), {"minimize": "macs", "maximize": "accuracy"}, "one metric can be best"),
    ],
)
def test_what_no_point_can_be_is_told(
    where: tuple[str, ...], best: dict[str, str], message: str, result: SearchResult
) -> None:
    with pytest.raises(StudyError, match=message):
        result.select(*where, **best)


def test_of_no_metric_the_compromise_of_the_verdict_is_taken(result: SearchResult) -> None:
    chosen = result.select()
    assert f"Trial {chosen.trial.number} " in verdict(result.study, result.outcome)


def test_any_complete_trial_is_a_point(result: SearchResult) -> None:
    for point in result.front.points:
        assert result.point(point.trial.number) is point
    members = {point.trial.number for point in result.front.points}
    other = next(t for t in result.outcome.trials if t.state == "complete" and t.number not in members)
    assert result.point(other.number).trial is other
    with pytest.raises(StudyError, match="trial 11 is rejected, and has no model: macs"):
        result.point(11)
    with pytest.raises(StudyError, match="there is no trial 24 among 24"):
        result.point(24)


def test_an_empty_front_has_no_best(tmp_path: Path) -> None:
    study = synthetic.study(tmp_path, objectives=2)
    empty = SearchResult(study, synthetic.outcome(study, (synthetic.trial(3, state="failed"),)))
    with pytest.raises(StudyError, match="the front is empty"):
        empty.select(maximize="accuracy")
    assert "1 trial (1 failed), front of 0" in repr(empty)
    assert "<table>" in empty._repr_html_()
    assert pixels(empty.plot()).size[0] > 400
