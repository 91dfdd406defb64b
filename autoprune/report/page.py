"""The report as one page that needs nothing else: no network, no library, no file beside it.

What is told in words and tables is written here and readable without a script; the scripts draw what one looks around
in. Everything that a spec or a plugin named is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from autoprune.plugin.results import StudyInfo, StudyOutcome
from autoprune.plugin.values import Direction
from autoprune.report._words import dense_trial, heading, label, number, reasons, searched_groups, together
from autoprune.report.importance import Importance, group_importance
from autoprune.report.page_data import embedded, page_data
from autoprune.report.tables import front_summary
from autoprune.report.text import picked, verdict
from autoprune.spec.secrets import masked

_SCRIPTS = ("page_words.js", "page_views.js", "page.js")
_MOST_NUMBERS = 12

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="verdict">$verdict</p>
$picks
$counts
<noscript><p class="warning">Pictures and the pages of single models are drawn by a script, which is off.</p></noscript>
<div id="views" hidden>
$views</div>
$front
$importance
$unfinished
$environment
</main>
<div id="tip" role="status" hidden></div>
<script type="application/json" id="data">$data</script>
<script type="module">
$script</script>
</body>
</html>
""")

_VIEWS = """<section id="front">
<h2>The front</h2>
<p>Validation values. Drag a rectangle to select trials: all pictures and the table show the same selection.
A click on a point of the front opens the model below. By keyboard: arrows go from point to point, Space selects, Enter
opens, Escape clears.</p>
<p class="controls"><label>across <select id="across"></select></label> <label>up <select id="up"></select></label>
<button type="button" id="clear" disabled>clear selection</button> <span id="selected" aria-live="polite"></span></p>
<p class="legend" id="legend"></p>
<div class="plot" id="scatter"></div>
</section>
<section id="model" tabindex="-1">
<h2>One model</h2>
<p class="controls"><label>trial <select id="which"></select></label></p>
<div id="point"></div>
</section>
<section>
<h2>The front over its objectives</h2>
<p>A line per member; up is better on every axis. The dense model is dashed.</p>
<div class="plot" id="parallel"></div>
</section>
<section>
<h2>Ratios along the front</h2>
<p>Share of each group's units that went; members in the order of the front, best first objective first.</p>
<div class="plot" id="heat"></div>
</section>
<section>
<h2>Hypervolume over the trials</h2>
<p>$volume</p>
<div class="plot" id="volume"></div>
</section>
"""


def report_page(study: StudyInfo, outcome: StudyOutcome) -> str:
    """The whole report as an HTML document, verdict first.

    Args:
        study: The study.
        outcome: How it stands.
    """
    folder = files("autoprune.report")
    return _PAGE.substitute(
        title=escape(study.name),
        style=folder.joinpath("page.css").read_text(encoding="utf-8"),
        verdict=escape(verdict(study, outcome)),
        picks=_picks(study, outcome),
        counts=_counts(study, outcome),
        views=Template(_VIEWS).substitute(volume=escape(_volume(study, outcome))) if outcome.front.points else "",
        front=_front(study, outcome),
        importance=_importance(study, outcome),
        unfinished=_unfinished(outcome),
        environment=_section("Environment", _table(["", ""], [[k, masked(v)] for k, v in study.environment.items()])),
        data=embedded(page_data(study, outcome)),
        script="\n".join(
            folder.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS if outcome.front.points
        ),
    )


def _picks(study: StudyInfo, outcome: StudyOutcome) -> str:
    told = picked(study, outcome)
    lines = (f"<li><b>{escape(name.capitalize())}</b>, {escape(text)}</li>" for name, text in told)
    return f"<ul>{''.join(lines)}</ul>" if told else ""


def _counts(study: StudyInfo, outcome: StudyOutcome) -> str:
    states = Counter(trial.state for trial in outcome.trials)
    broken = sum(trial.state == "complete" and not trial.feasible for trial in outcome.trials)
    lines = [
        f"{len(outcome.trials)} of {study.trials} trials: {states['complete']} complete"
        + (f" ({broken} of them break a constraint)" if broken else "")
        + f", {states['failed']} failed, {states['rejected']} rejected."
    ]
    if outcome.interrupted:
        lines.append("The search was interrupted; resume it to run the rest.")
    for state in ("failed", "rejected"):
        trials = [trial for trial in outcome.trials if trial.state == state]
        lines += [
            f"{state.capitalize()}, {len(alike)}: {reason.splitlines()[0]}" for reason, alike in reasons(trials)[:5]
        ]
    if outcome.front.points:
        lines.append(f"{len(outcome.front.points)} on the front, hypervolume {outcome.front.hypervolume:.4g}.")
    if study.constraints:
        bounds = ", ".join(f"{name} {bound}" for name, bound in study.constraints.items())
        lines.append(f"Constraints: {bounds}.")
    lines += together(outcome)
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _volume(study: StudyInfo, outcome: StudyOutcome) -> str:
    reference = ", ".join(
        f"{heading(name, study.units.get(name, ''))} {number(value, study.units.get(name, ''))}"
        for name, value in outcome.front.reference.items()
    )
    text = f"How much of the objectives' space the front has, as trials were measured by the search ({reference} is 0)."
    if any(point.searched for point in outcome.front.points):
        text += f" Members were made again after that: {outcome.front.hypervolume:.4g} in the end."
    return text


def _front(study: StudyInfo, outcome: StudyOutcome) -> str:
    if not outcome.front.points and dense_trial(outcome) is None:
        return ""
    titles, rows = front_summary(study, outcome)
    body = "".join(
        f'<tr data-trial="{row[0]}"><td><a href="#trial-{row[0]}">{row[0]}</a></td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return _section("Its members", _framed(titles, body))


def _importance(study: StudyInfo, outcome: StudyOutcome) -> str:
    groups, names = searched_groups(study), list(outcome.front.objectives)
    found = group_importance(outcome.trials, groups, names)
    if not any(value for row in found.values() for value in row.values()):
        return ""
    objectives = outcome.front.objectives.items()
    body = "".join(
        f"<tr><td>{escape(group)}</td>{''.join(_bar(found[group][name], way) for name, way in objectives)}</tr>"
        for group in groups
    )
    told = (
        "<p>Spearman's rank correlation of each group's ratio with each objective, over the complete trials. Its size"
        " is the importance; the sign says which way the objective went as more of the group went: −0.8 for accuracy is"
        " a group that it suffers from. Green is for the better, orange for the worse, grey where chance explains it"
        " (95 %). It says what went together in this search, not what one group alone would do.</p>"
    )
    titles = ["group", *(label(name, study.units.get(name, "")) for name in names)]
    return _section("Importance of the groups", told + _framed(titles, body))


def _bar(found: Importance | None, direction: Direction) -> str:
    if found is None:
        return "<td>-</td>"
    kind = "better" if (found.correlation > 0) == (direction == "maximize") else "worse"
    kind = kind if found.told_from_chance else "chance"
    text = f"{found.correlation:+.2f}".replace("-", "−")
    return f'<td><span class="bar {kind}" style="width:{abs(found.correlation) * 4:.2f}em"></span> {text}</td>'


def _unfinished(outcome: StudyOutcome) -> str:
    trials = [trial for trial in outcome.trials if trial.state != "complete"]
    if not trials:
        return ""
    rows = [[state, f"{len(alike)}", _numbers(alike), reason] for state in ("failed", "rejected")
            for reason, alike in reasons([trial for trial in trials if trial.state == state])]  # fmt: skip
    return _section("Failed and rejected", _table(["", "how many", "trials", "reason, of the first of them"], rows))


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_MOST_NUMBERS]))
    return f"{shown}, …" if len(numbers) > _MOST_NUMBERS else shown


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return _framed(titles, "".join(_row(row) for row in rows))


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _framed(titles: Sequence[str], body: str) -> str:
    """A table that scrolls where the screen is narrow."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    top = f"<thead><tr>{head}</tr></thead>" if any(titles) else ""
    return f'<div class="wide" tabindex="0"><table>{top}<tbody>{body}</tbody></table></div>'
