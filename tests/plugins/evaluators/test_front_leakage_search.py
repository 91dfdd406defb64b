"""A search tells what its front leaks together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from autoprune.host.binding import load_spec
from autoprune.plugin import EvaluationContext, Split
from autoprune.report import report_files
from autoprune.study import resume, search
from autoprune_evaluators import _lira
from autoprune_evaluators.membership import MembershipInference

SPEC = """\
name: leaking
model: {use: digits-cnn, width: 4, epochs: 2}
data: {use: digits}
scorer: {use: l1}
strategy: {use: one-shot}
evaluators: [{use: params}, {use: accuracy}, {use: membership-inference, samples: 100}]
objectives: {accuracy: maximize, params: minimize}
search: {sampler: {use: random}, trials: 4, ladder: 3}
tracking: {enabled: false}
device: cpu
output: study
"""


@pytest.mark.slow
def test_a_search_tells_what_its_front_leaks_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    result = search(load_spec(tmp_path / "spec.yaml"))
    together, alone = result.outcome.together, result.outcome.dense_test
    assert list(together) == ["front_leakage_auc", "front_leakage_advantage"]
    for name, measured in together.items():
        dense = alone[name.replace("front_leakage", "membership")]
        assert measured.difference is not None
        assert measured.difference.value == pytest.approx(measured.value - dense.value)
        assert measured.samples == dense.samples
        assert measured.low is not None
    files = report_files(result.study, result.outcome)
    count = sum(point.trial.origin != "dense" for point in result.front.points)
    assert (
        f"Of all {count} pruned members and the dense model together (test split): front leakage auc 0."
        in files["report.md"]
    )
    document = json.loads(files["front.json"])
    assert document["together"]["front_leakage_auc"]["low"] == together["front_leakage_auc"].low

    def again(*_: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(MembershipInference, "of_front", again)
    assert resume(result.study.folder).outcome.together == together


@pytest.mark.slow
def test_shadow_models_are_trained_once_in_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the validation split, and for the part of the test split on which all models and the front are measured."""
    sizes: list[int] = []
    real = _lira.trained

    def counted(ctx: EvaluationContext, samples: Split, *args: Any, **options: Any) -> nn.Module:
        sizes.append(len(ctx.data.split(ctx.split)))
        return real(ctx, samples, *args, **options)

    monkeypatch.setattr(_lira, "trained", counted)
    lira = "{use: membership-inference, attack: lira, shadows: 4, epochs: 0.1, samples: 60}"
    (tmp_path / "spec.yaml").write_text(SPEC.replace("{use: membership-inference, samples: 100}", lira))
    result = search(load_spec(tmp_path / "spec.yaml", overrides=("search.trials=2", "search.final.samples=100")))
    assert result.outcome.together["front_leakage_auc"].samples == 200
    validation = max(sizes)
    assert sizes == 4 * [8] + 4 * [validation] + 4 * [100]  # first the host's rehearsal, on a handful
    sizes.clear()
    more = resume(result.study.folder, trials=4)
    assert sizes == 4 * [8]
    first = {trial.number: trial.metrics for trial in result.outcome.trials}
    assert all(trial.metrics == first[trial.number] for trial in more.outcome.trials[:2])
