"""Tables, text and figures of a study: pure functions of what observers see."""

from autoprune.report._words import chosen, heading, label, number, reasons, spread, tested_on
from autoprune.report.comparison import comparison, comparison_summary
from autoprune.report.figures import front_figure, front_plot, ratios_figure
from autoprune.report.files import REPORT_FILES, csv_text, report_files, write_report
from autoprune.report.html import front_html
from autoprune.report.page import report_page
from autoprune.report.picks import compromise, named_member, picks
from autoprune.report.tables import compared_models, front_summary, front_table, mean_ratio, trials_table
from autoprune.report.text import markdown, picked_markdown, point_verdict, verdict

__all__ = [
    "REPORT_FILES",
    "chosen",
    "compared_models",
    "comparison",
    "comparison_summary",
    "compromise",
    "csv_text",
    "front_figure",
    "front_html",
    "front_plot",
    "front_summary",
    "front_table",
    "heading",
    "label",
    "markdown",
    "mean_ratio",
    "named_member",
    "number",
    "picked_markdown",
    "picks",
    "point_verdict",
    "ratios_figure",
    "reasons",
    "report_files",
    "report_page",
    "spread",
    "tested_on",
    "trials_table",
    "verdict",
    "write_report",
]
