"""The package as the host finds it."""

from __future__ import annotations

import subprocess
import sys

from autoprune.host.plugins import PluginHost
from autoprune.plugin import Evaluator


def test_the_host_finds_every_evaluator() -> None:
    found = PluginHost().components(Evaluator)
    assert {"accuracy", "loss", "params", "macs", "size", "latency", "pgd", "fgsm"} <= found.keys()
    assert {"top-k", "precision", "recall", "auc", "calibration-error", "worst-class"} <= found.keys()
    assert {"generalization-gap", "gaussian-noise", "salt-and-pepper", "corruption"} <= found.keys()
    assert {"explanation-agreement"} <= found.keys()
    assert {"autoattack", "foreign-attack", "robust-loss", "embedding-attack", "token-attack"} <= found.keys()
    assert {"perplexity", "f1", "miou", "r2", "mae", "rmse", "agreement", "metric"} <= found.keys()


def test_each_metric_carries_its_unit_and_each_option_its_description() -> None:
    import autoprune_evaluators

    for component in autoprune_evaluators.autoprune_components():
        assert issubclass(component, Evaluator)
        assert component.__doc__
        assert all(metric.unit and metric.description for metric in component.metrics)
        assert component.metrics or "declares" in vars(component)
        undescribed = [name for name, field in component.model_fields.items() if not field.description]
        assert set(undescribed) <= {"label"}


def test_checking_a_spec_needs_no_torch() -> None:
    code = (
        "import sys, autoprune_evaluators as e; e.Pgd(epsilon='2/255'); e.Latency(); e.F1(); e.R2(); "
        "e.TopK(); e.Auc(); e.CalibrationError(); e.GeneralizationGap(); e.GaussianNoise(deviation='8/255'); "
        "e.ForeignAttack(attack='foolbox.attacks:LinfPGD', epsilon=0.1); e.AutoAttack(epsilon='auto').produces(); "
        "e.Pgd(epsilon=0.1, targeted='next'); e.RobustLoss(epsilon=0.1); e.EmbeddingAttack().produces(); "
        "e.TokenAttack(); "
        "e.Corruption(each=True).produces(); e.ExplanationAgreement(); "
        "assert e.UserMetric(target='m:f1', direction='maximize').produces()[0].name == 'f1'; "
        "assert not {'torch', 'numpy', 'sklearn'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
