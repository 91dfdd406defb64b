"""The energy that predictions take, where the hardware counts it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Evaluator, Measured, Metric
from autoprune_evaluators._timing import bare, in_turn, network_inputs

if TYPE_CHECKING:
    import torch
    from torch import nn


class Energy(Evaluator):
    """Energy of one sample's prediction, as the CPU's packages (RAPL) or the GPU's board (NVML) count it.

    The counters count whatever runs on the machine, and are read some hundred times a second at best: passes of the
    network and of the dense one take turns in stretches of a quarter of a second, and their ratio is what holds.
    """

    name = "energy"
    needs = frozenset({"data"})
    metrics = (
        Metric("energy_mj", "mJ", "minimize", Cost.TIMING, "Energy of one sample in millijoules, the median."),
        Metric("energy_ratio", "fraction of dense", "minimize", Cost.TIMING, "Energy over the dense model's."),
    )

    batch_size: int = Field(default=64, ge=1, description="Samples in one pass.")
    stretch: float = Field(
        default=0.25, gt=0, allow_inf_nan=False, description="Seconds of passes between two looks at the counter."
    )
    repeats: int = Field(default=4, ge=2, description="Stretches of each network, at least.")

    def refuses(self, data: Data) -> str | None:  # noqa: ARG002  hangs on the machine
        """Why this machine cannot tell; None where it may."""
        import torch

        from autoprune_evaluators._joules import POWERCAP, packages

        if torch.cuda.is_available() or packages():
            return None
        return f"{self.name}: this machine tells no energy: it has no CUDA device and no {POWERCAP}/intel-rapl:0"

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Run the network and the dense network in stretches, and read the counter between them.

        Raises:
            TrialError: There is no counter, it may not be read, or it stands still.
        """
        import torch

        from autoprune_evaluators._joules import counter

        joules = counter(ctx.device)
        with torch.inference_mode():
            inputs = network_inputs(model, ctx, self.batch_size)
            ours, dense = (self._stretch(bare(each), inputs.feed, joules, ctx.device) for each in (model, ctx.dense))
            ours(), dense()
            pairs = in_turn(ours, dense, repeats=self.repeats, seconds=0, of_dense=ctx.of_dense)
        return pairs.measured("energy_mj", "energy_ratio", of_dense=ctx.of_dense)

    def _stretch(
        self,
        network: nn.Module,
        feed: Callable[[nn.Module], object],
        joules: Callable[[], float],
        device: torch.device,
    ) -> Callable[[], float]:
        """What gives the millijoules of a sample, of passes for so long."""
        import torch

        def run() -> float:
            passes, before, end = 0, joules(), time.perf_counter() + self.stretch
            while time.perf_counter() < end:
                feed(network)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                passes += 1
            taken = joules() - before
            if taken <= 0:
                raise TrialError(f"{self.name}: the counter stands still for {self.stretch:g} s: take a longer stretch")
            return 1e3 * taken / (passes * self.batch_size)

        return run
