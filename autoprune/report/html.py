"""A study's front as HTML, for a notebook's cell."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from autoprune.plugin.results import StudyInfo, StudyOutcome
from autoprune.report.tables import front_summary


def front_html(study: StudyInfo, outcome: StudyOutcome, *, caption: str, links: Sequence[tuple[str, str]] = ()) -> str:
    """The dense model and the front as a table; takes no script and no style from anywhere.

    Args:
        study: The study.
        outcome: How it stands.
        caption: Stands above.
        links: Texts and addresses, told below.
    """
    titles, rows = front_summary(study, outcome)
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    told = " · ".join(f'<a href="{escape(address)}">{escape(text)}</a>' for text, address in links)
    return (
        f"<div>{escape(caption)}</div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<div>{told}</div>"
    )
