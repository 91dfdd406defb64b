"""What the candidate's arithmetic alone tells: parameters, multiply-accumulates and bytes."""

from __future__ import annotations

from collections.abc import Mapping

from autoprune.plugin import Cost, Costs, ExactEvaluator, Metric


class Params(ExactEvaluator):
    """Counts the parameters (buffers not counted)."""

    name = "params"
    metrics = (
        Metric("params", "parameters", "minimize", Cost.EXACT, "Number of parameters."),
        Metric("params_ratio", "fraction of dense", "minimize", Cost.EXACT, "Parameters left, of the dense model's."),
    )

    def compute(self, costs: Costs, dense: Costs) -> Mapping[str, float]:
        """The parameters and their share of the dense model's."""
        return {"params": costs.params, "params_ratio": costs.params / dense.params}


class Macs(ExactEvaluator):
    """Counts the multiply-accumulates of convolutions, linear layers and matrix products for one sample."""

    name = "macs"
    metrics = (
        Metric("macs", "multiply-accumulates", "minimize", Cost.EXACT, "Multiply-accumulates for one sample."),
        Metric("macs_ratio", "fraction of dense", "minimize", Cost.EXACT, "MACs left, of the dense model's."),
    )

    def compute(self, costs: Costs, dense: Costs) -> Mapping[str, float]:
        """The multiply-accumulates and their share of the dense model's."""
        return {"macs": costs.macs, "macs_ratio": costs.macs / dense.macs}


class Size(ExactEvaluator):
    """Counts the bytes of parameters and buffers, in megabytes of 10⁶ bytes."""

    name = "size"
    metrics = (
        Metric("size_mb", "MB", "minimize", Cost.EXACT, "Parameters and buffers, in 10⁶ bytes."),
        Metric("size_ratio", "fraction of dense", "minimize", Cost.EXACT, "Bytes left, of the dense model's."),
    )

    def compute(self, costs: Costs, dense: Costs) -> Mapping[str, float]:
        """The megabytes and their share of the dense model's."""
        return {"size_mb": costs.bytes / 1e6, "size_ratio": costs.bytes / dense.bytes}


class Sparsity(ExactEvaluator):
    """Counts the weights that a mask (granularities weights, kernels, N:M) has set to zero."""

    name = "sparsity"
    metrics = (
        Metric("sparsity", "fraction", "maximize", Cost.EXACT, "Parameters set to zero, of those that are left."),
        Metric("nonzero_ratio", "fraction of dense", "minimize", Cost.EXACT, "Nonzero parameters, of all dense ones."),
    )

    def compute(self, costs: Costs, dense: Costs) -> Mapping[str, float]:
        """The fraction of zeros, and of parameters that are neither cut nor zero."""
        return {"sparsity": 1 - costs.nonzero / costs.params, "nonzero_ratio": costs.nonzero / dense.nonzero}
