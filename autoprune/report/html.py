"""A study's report as HTML, for a notebook's cell."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from autoprune.plugin.results import StudyInfo, StudyOutcome
from autoprune.report.page import report_page
from autoprune.report.tables import front_summary

_MOST_BYTES = 5_000_000
"""Of a page in a cell: a notebook keeps what its cells show."""


def front_html(study: StudyInfo, outcome: StudyOutcome, *, caption: str, links: Sequence[tuple[str, str]] = ()) -> str:
    """The dense model and the front as a table, then the whole report in a frame.

    The table takes no script and no style from anywhere: it is what is left where neither is shown. The frame is a
    document of its own, whose script reaches nothing of the notebook.

    Args:
        study: The study.
        outcome: How it stands.
        caption: Stands above.
        links: Texts and addresses, told below the table.
    """
    titles, rows = front_summary(study, outcome)
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    told = " · ".join(f'<a href="{escape(address)}">{escape(text)}</a>' for text, address in links)
    return (
        f"<div>{escape(caption)}</div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<div>{told}</div>{_frame(report_page(study, outcome)) if outcome.front.points else ''}"
    )


def _frame(page: str) -> str:
    if len(page.encode()) > _MOST_BYTES:
        return "<div>The whole report is too large for a cell; report.html has it.</div>"
    return (
        '<iframe sandbox="allow-scripts" title="report" style="width:100%;height:48em;border:1px solid #ccc" '
        f'srcdoc="{escape(page)}"></iframe>'
    )
