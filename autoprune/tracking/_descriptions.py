"""What MLflow's pages say in words of an experiment, a study and a member of the front: Markdown, verdict first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome
from autoprune.plugin.values import Measured
from autoprune.report import heading, number, picked_markdown, reasons, spread
from autoprune.spec.secrets import masked
from autoprune.tracking._records import COLOUR_KEY, MOST_TAG
from autoprune.tracking._view import PAGE, view_query

_OURS = "[//]: # (autoprune: what follows is written anew by each study)"
_MOST_STUDIES = 10
_MOST_EXPERIMENT = 4900
_MOST_REASONS = 3
_MOST_REASON = 200
_MOST_ROWS = 12


@dataclass(frozen=True)
class Described:
    """A study of an experiment."""

    experiment: str
    parent: str
    """Id of its run."""
    folder: str
    verdict: str
    counts: str = ""
    """What became of its trials."""

    @property
    def name(self) -> str:
        """By which it is told from the experiment's others."""
        return Path(self.folder).name

    @property
    def links(self) -> str:
        """To its front, its trials and its run, on whatever server this is read."""
        runs = f"#/experiments/{self.experiment}/runs"
        front, trials = (view_query(self.parent, everything=everything) for everything in (False, True))
        own = f"{runs}/{self.parent}?workflowType=machine_learning"
        return f"[front]({runs}?{front}) · [all trials]({runs}?{trials}) · [the study]({own})"


def experiment_note(earlier: str, studies: Sequence[Described]) -> str:
    """The experiment's description: the newest study first, and what its user wrote before all.

    Args:
        earlier: The description so far.
        studies: The experiment's, newest first.
    """
    own = earlier.partition(_OURS)[0].rstrip()
    newest, *others = studies[:_MOST_STUDIES]
    first = f"**{newest.name}: {newest.verdict}**"
    parts = [part for part in (own, _OURS, first, newest.links, newest.counts, COLOUR_KEY) if part]
    least = len(parts)
    parts += [f"- {study.name}: {study.verdict} {study.links}" for study in others]
    if len(studies) > _MOST_STUDIES:
        parts.append(f"{len(studies) - _MOST_STUDIES} older studies are in the list of runs.")
    while len("\n\n".join(parts)) > max(_MOST_EXPERIMENT, len(own) + 2000) and len(parts) > least:
        parts.pop()
    return "\n\n".join(parts)


def study_note(study: StudyInfo, outcome: StudyOutcome, described: Described, opening: str = "") -> str:
    """The description of a study's run.

    Args:
        study: The study.
        outcome: How it stands.
        described: The same, as its experiment knows it.
        opening: How the model that the verdict is about is loaded.
    """
    parts = [
        f"**{described.verdict}**",
        picked_markdown(study, outcome),
        described.links,
        _size(outcome, study.units),
        described.counts,
        opening
        and f"The model that the verdict is about is loaded with\n\n{opening}\n\nand each other by the lines on"
        " the page of its trial.",
        "`report.html` among the artifacts has the front to look around in, offline, too; `spec.yaml` what was asked.",
        COLOUR_KEY,
    ]
    while len(note := "\n\n".join(filter(None, parts))) > MOST_TAG:
        parts.pop()
    return masked(note)


def _size(outcome: StudyOutcome, units: Mapping[str, str]) -> str:
    """Of the front: members and hypervolume."""
    front = outcome.front
    if not front.points:
        return ""
    reference = ", ".join(
        f"{heading(name, units.get(name, ''))} {number(value, units.get(name, ''))}"
        for name, value in front.reference.items()
    )
    told = f"{len(front.points)} on the front, hypervolume {front.hypervolume:.4g} against {reference}."
    if len(front.points) + 1 > PAGE:
        told += (
            f" The view of the front loads {PAGE} runs, spread over the front; the rest come with *Load more* below"
            " its list. `report.html` has them all."
        )
    return told


def counts(study: StudyInfo, outcome: StudyOutcome) -> str:
    """What became of the trials, and most often why not."""
    states = Counter(trial.state for trial in outcome.trials)
    told = ", ".join(f"{states[state]} {state}" for state in ("complete", "failed", "rejected") if states[state])
    lines = [f"{len(outcome.trials)} of {study.trials} trials: {told or 'none'}."]
    for state in ("failed", "rejected"):
        trials = [trial for trial in outcome.trials if trial.state == state]
        lines += [
            f"- {len(alike)} {state}, such as trial {alike[0]}: {' '.join(reason.split())[:_MOST_REASON]}"
            for reason, alike in reasons(trials)[:_MOST_REASONS]
        ]
    if outcome.interrupted:
        lines.append(f"\nThe search was interrupted; `autoprune resume {study.folder}` goes on.")
    return masked("\n".join(lines))


def member_table(study: StudyInfo, outcome: StudyOutcome, point: FrontPoint) -> str:
    """What was measured of a member beside the dense model, with intervals; objectives first."""
    dense = next((trial.metrics for trial in outcome.trials if trial.origin == "dense"), {})
    columns: dict[str, Mapping[str, Measured]] = {
        "dense, validation": dense,
        "validation": point.trial.metrics,
        "dense, test": outcome.dense_whole_test if point.whole_test else outcome.dense_test,
        "test": point.whole_test or point.test,
    }
    columns = {title: values for title, values in columns.items() if values}
    names = list(dict.fromkeys([*study.objectives, *point.trial.metrics]))[:_MOST_ROWS]
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    for name in names:
        unit = study.units.get(name, "")
        rows.append([heading(name, unit), *(spread(values.get(name), unit) for values in columns.values())])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def described_by(tags: Mapping[str, str], experiment: str, parent: str) -> Described:
    """A study, by the tags of its run."""
    folder, verdict, trials = (tags.get(f"autoprune.{name}", "") for name in ("folder", "verdict", "counts"))
    return Described(experiment, parent, folder, verdict, trials)
