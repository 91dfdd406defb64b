"""How long a model takes, and how much it gets done, against the dense one at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Cost, EvaluationContext, Evaluator, Measured, Metric
from autoprune_evaluators._timing import Pairs, bare, in_turn, milliseconds, network_inputs

if TYPE_CHECKING:
    from torch import nn


class TimedEvaluator(Evaluator):
    """Times passes of the bare network, in turn with the dense one.

    Input is a normalised batch that already is on the device. The two networks take turns, and so does which of them
    goes first, so that what slows the machine down hits both: the ratio holds where milliseconds wander. Intervals are
    of 95 % confidence, from medians of consecutive parts of the passes. The dense model is timed against itself, and on
    until its ratio is 1 within its interval; where it never is, the search says that this machine is too noisy.
    """

    needs = frozenset({"data"})

    batch_size: int = Field(default=64, ge=1, description="Samples in the timed batch.")
    repeats: int = Field(default=20, ge=2, description="Timed passes of each network, at least.")
    seconds: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="Goes on timing for at least so long, for quick networks."
    )
    warmup: int = Field(default=3, ge=0, description="Passes of each network before the first timed one.")
    threads: int | None = Field(
        default=None, ge=1, description="Threads of the CPU for one operation; those of the search if left out."
    )
    mode: Literal["eager", "compile"] = Field(
        default="eager",
        description="compile times what `torch.compile` makes of each network: some ten seconds for every candidate.",
    )

    def _timed(self, model: nn.Module, ctx: EvaluationContext) -> Pairs:
        """Milliseconds of one batch.

        Raises:
            TrialError: A network can't be compiled.
        """
        import torch

        with self._settings(), torch.inference_mode():
            inputs = network_inputs(model, ctx, self.batch_size)
            ours, dense = (self._runnable(bare(each)) for each in (model, ctx.dense))
            passes = (lambda: inputs.feed(ours)), (lambda: inputs.feed(dense))
            for _ in range(max(self.warmup, self.mode == "compile")):
                for run in passes:
                    self._warm_up(run)
            return in_turn(
                *(lambda run=run: milliseconds(run, ctx.device) for run in passes),
                repeats=self.repeats,
                seconds=self.seconds,
                of_dense=ctx.of_dense,
            )

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Threads, and room for what is compiled: both networks run the same code."""
        with _threads(self.threads):
            if self.mode == "eager":
                yield
                return
            import torch._dynamo

            # What was compiled of earlier candidates would be looked through at every call, and once there are many
            # of them, later ones are not compiled any more.
            torch._dynamo.reset()
            with torch._dynamo.config.patch(recompile_limit=10_000, fail_on_recompile_limit_hit=True):
                yield

    def _runnable(self, network: nn.Module) -> Any:
        if self.mode == "eager":
            return network
        import torch

        return torch.compile(network, dynamic=False)

    def _warm_up(self, run: Callable[[], object]) -> None:
        if self.mode == "eager":
            run()
            return
        try:
            run()
        except Exception as error:  # of the compiler, of many kinds
            told = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise TrialError(f"{self.name}: torch.compile can't make the network run: {told.strip()}") from error


class Latency(TimedEvaluator):
    """Times one forward pass.

    Several batch sizes, numbers of threads or modes are several of them, each with its own ``label``.
    """

    name = "latency"
    metrics = (
        Metric("latency_ms", "ms", "minimize", Cost.TIMING, "Time of one batch, the median."),
        Metric(
            "latency_ratio",
            "fraction of dense",
            "minimize",
            Cost.TIMING,
            "Time of one batch over the dense model's right before or after it, the median.",
        ),
    )

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Time the network and the dense network in alternating order.

        Raises:
            TrialError: A network can't be compiled.
        """
        return self._timed(model, ctx).measured("latency_ms", "latency_ratio", of_dense=ctx.of_dense)


class Throughput(TimedEvaluator):
    """Samples in a second, in batches one after the other."""

    name = "throughput"
    metrics = (
        Metric("throughput", "samples/s", "maximize", Cost.TIMING, "Samples in a second, the median."),
        Metric(
            "throughput_ratio",
            "fraction of dense",
            "maximize",
            Cost.TIMING,
            "Samples in a second over the dense model's right before or after it, the median.",
        ),
    )

    batch_size: int = Field(default=256, ge=1, description="Samples in one pass.")

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Time the network and the dense network in alternating order.

        Raises:
            TrialError: A network can't be compiled.
        """
        speeds = self._timed(model, ctx).scaled(lambda ms: 1e3 * self.batch_size / ms)
        return speeds.measured("throughput", "throughput_ratio", of_dense=ctx.of_dense)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """That many threads for one operation."""
    if count is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
