"""Accuracy over the multiply-accumulates that are left, one panel per network, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib.figure import Figure

from tests.benchmarks.drawn import svg

from .bench import NETWORKS
from .methods import METHODS

# Okabe and Ito's colours; lines of one colour differ in their dashes.
_LINES = {
    "none": ("#A6A6A6", ":"),
    "bias": ("#A6A6A6", "-"),
    "recalibration": ("#000000", "--"),
    "mixing": ("#56B4E9", ":"),
    "mixing-norms": ("#56B4E9", "-"),
    "affine": ("#0072B2", ":"),
    "affine-norms": ("#0072B2", "-"),
    "low-rank": ("#009E73", "-"),
    "repair": ("#D55E00", "--"),
    "repair-final": ("#E69F00", "-"),
    "repair-large": ("#D55E00", "-"),
}


def figure(found: Mapping[str, Mapping[str, Mapping[float, Sequence[float]]]], dense: Mapping[str, float]) -> str:
    """SVG text.

    Args:
        found: Network to method to multiply-accumulates to the accuracies of all seeds.
        dense: Network to the accuracy of the dense model.
    """

    def draw(drawn: Figure) -> None:
        handles = {}
        for place, (network, methods) in enumerate(found.items()):
            axis = drawn.add_subplot(1, len(found), place + 1)
            for method, points in methods.items():
                colour, dashes = _LINES[method]
                macs = sorted(points)
                (line,) = axis.plot(
                    macs, [median(points[m]) for m in macs], color=colour, linestyle=dashes, marker="o", markersize=3,
                    linewidth=2.2 if method.startswith("repair") else 1.3,
                )  # fmt: skip
                lows, highs = ([end(points[m]) for m in macs] for end in (min, max))
                axis.fill_between(macs, lows, highs, color=colour, alpha=0.15, linewidth=0)
                handles.setdefault(METHODS[method].plain_title, line)
            axis.axhline(dense[network], color="#000000", linewidth=0.6)
            axis.set_ylim(0, 0.92)
            axis.set_title(f"{NETWORKS[network]} on CIFAR-10", fontsize=9)
            axis.set_xlabel("multiply-accumulates left")
            axis.set_ylabel("test accuracy, no training")
        drawn.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize=8)

    return svg(draw, size=(4.2 * len(found), 4.4))
