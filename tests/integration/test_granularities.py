"""Channels, blocks and sparsity searched at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune import load_pruned, search
from autoprune.host.binding import load_spec

from .conftest import SPEC
from .saved_models import opened, recorded

MASKS = ("weights", *(pytest.param(masks, marks=pytest.mark.long) for masks in ("kernels", "2:4")))


@pytest.mark.slow
@pytest.mark.parametrize("masks", MASKS)
def test_granularities_are_searched_together_and_their_models_open(masks: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    settings = (
        f"search_space.use=[channels, blocks, '{masks}']",
        "strategy={use: one-shot, recover: {use: fine-tune, epochs: 0.2}}",
        "evaluators=[{use: macs}, {use: sparsity}, {use: accuracy}]",
        "objectives={accuracy: maximize, macs: minimize, sparsity: maximize}",
        "constraints={}",
        "search.trials=7",
        "search.early_rejection=0",  # which candidates the front dominates for sure differs from machine to machine
        "output=study",
        "tracking.enabled=false",
    )
    result = search(load_spec(tmp_path / "spec.yaml", overrides=settings))
    assert [(trial.state, trial.reason) for trial in result.outcome.trials] == [("complete", None)] * 7
    kinds = {group.name: group.granularity for group in result.study.groups}
    cut = [{kinds[name] for name, ratio in trial.achieved.items() if ratio} for trial in result.outcome.trials]
    assert {"channel", "block", masks.removesuffix("s")} <= set.union(*cut)
    accuracy = recorded(result.study.folder)
    number = next(p.trial.number for p in result.front.points if p.trial.metrics["sparsity"].value > 0.1)
    found = opened(result.study.folder, number)
    assert found["accuracy"] == accuracy[number]
    assert found["deviation"] < 1e-4
    measured = next(p.trial for p in result.front.points if p.trial.number == number).metrics["sparsity"].value
    params = sum(p.numel() for p in load_pruned(result.study.folder / "models" / str(number), trust=True).parameters())
    assert found["zeros"] == pytest.approx(measured * params, abs=3), "a trained bias may be zero by chance"
