"""How the figures of measured pages are drawn: the same in every process, and small."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable

import matplotlib
from matplotlib.figure import Figure

_STYLE = {
    "svg.hashsalt": "autoprune",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
}


def svg(draw: Callable[[Figure], object], *, size: tuple[float, float]) -> str:
    """SVG text.

    Args:
        draw: Draws on a figure.
        size: Its width and height in inches.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "autoprune"})
    # A tenth of a point is exact enough for a path.
    return re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), buffer.getvalue())
