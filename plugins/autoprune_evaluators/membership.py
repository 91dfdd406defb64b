"""Whether a model tells which samples it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field

from autoprune import TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Inputs, Measured, Metric
from autoprune.plugin.task import shapes
from autoprune.toolkit.samples import SampleEvaluator, losses

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from autoprune.plugin import Split
    from autoprune_evaluators._lira import Shadows
    from autoprune_evaluators._membership import Scores

_FEWEST = 10
"""Non-members that may be taken for members at the asked rate: fewer say little of a rate."""
_SCALED = 1000
"""Train samples that the deviation of inputs is taken from, for noise."""


def _told_apart(rates: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
    if isinstance(rates, tuple) and len(set(rates)) < len(rates):
        raise ValueError("a rate is there twice")
    return rates


_Rate = Annotated[float, Field(gt=0, lt=1)]


class MembershipInference(SampleEvaluator):
    """How well an attacker tells samples of the training split from others, by the model's outputs and true targets.

    `membership_auc`, the area under the attacker's ROC curve, is 0.5 where nothing leaks; DeLong's 95 % interval.
    `membership_advantage` is the rate of members that are found less that of others taken for members, at a threshold
    that was chosen on other samples (two halves, each by the other's): about 0 where nothing leaks, 1 where all does.
    Yeom et al., *Privacy risk in machine learning*, arXiv:1709.01604. A mean hides whom it is easy to find:
    ``fpr: 0.01`` adds `membership_tpr`, the rate of members found where so few others are taken for members (Carlini et
    al., *Membership inference attacks from first principles*, arXiv:2112.03570). With the loss it adds
    `membership_tnr`, too, the rate of others found where so few members are taken for others: members lack the tail of
    large losses, and how much of it lies beyond them foretells what `lira` finds, without a reference model (Dodd et
    al., *The tail tells all*, arXiv:2510.19773).

    `lira` is the attack of Carlini et al., offline: how much surer a model is of a sample than shadow models that were
    not trained on it. These have the dense model's architecture and are trained, once in a study, on random halves of
    the train split and the measured one together; a model of the study then costs one pass. Train them as the dense
    model was, as far as `epochs` and `lr` can: models that have learnt far less, or more, find less.

    When the trials of a search are done, the report tells, too, what an attacker finds who asks all models of the front
    and the dense one, `front_leakage_auc` and `front_leakage_advantage`: versions of one model leak more side by side
    (Li et al., *CompLeak*, arXiv:2507.16872).

    It is right only if the dense model never saw the measured split, not the validation split either: weights that were
    trained on what is now held out make members of both sides, and nothing seems to leak.
    """

    name = "membership-inference"
    needs = frozenset({"data", "labels", "gradients"})

    attack: Literal["loss", "modified-entropy", "lira", "label-only"] = Field(
        default="loss",
        description="What tells members: a small loss of the task; of one class per sample, a small entropy of the"
        " prediction where a wrong one counts as uncertain (Song and Mittal, arXiv:2003.10595); lira, a loss smaller"
        " than models have that never saw the sample; label-only, predictions that stay right under noise, for who sees"
        " no scores (Choquette-Choo et al., arXiv:2007.14321).",
    )
    fpr: Annotated[_Rate | tuple[_Rate, ...] | None, AfterValidator(_told_apart)] = Field(
        default=None,
        description="Rate of others taken for members at which members are counted, too; of several, [0.001, 0.01],"
        " each has its metric, membership_tpr_at_0_001.",
    )
    samples: int | None = Field(
        default=1000, ge=20, description="Samples of each split, a fixed random choice; as many as both have if null."
    )
    shadows: int = Field(default=16, ge=4, multiple_of=2, description="Of lira: how many models are trained.")
    epochs: float = Field(default=30, gt=0, description="Of lira: passes over its half that train a shadow model.")
    lr: float = Field(default=0.005, gt=0, description="Of lira: learning rate of its first step, by AdamW.")
    seconds: float = Field(
        default=600,
        gt=0,
        description="Of lira: what training all shadow models may take; longer is refused.",
    )
    queries: int = Field(default=32, ge=1, description="Of label-only: noisy copies of each sample.")

    def declares(self, data: Data | None) -> tuple[Metric, ...]:  # noqa: ARG002  the options tell
        """Area and advantage, and the rates at ``fpr`` if those are asked for."""
        cost = Cost.ATTACK if self.attack in ("lira", "label-only") else Cost.FORWARD
        return (
            Metric("membership_auc", "1", "minimize", cost, "Area under a membership attack's ROC curve."),
            Metric("membership_advantage", "1", "minimize", cost, "Members found less others taken for them."),
            *(Metric(name, "fraction", "minimize", cost, told) for name, told in self._rates().items()),
        )

    def _rates(self) -> dict[str, str]:
        """Names and descriptions of the rates, those of members first."""
        members, others = {}, {}
        for rate in self._asked():
            at = f"_at_{rate:g}".replace(".", "_").replace("-", "_") if isinstance(self.fpr, tuple) else ""
            share = f"{100 * rate:g} %"
            members[f"membership_tpr{at}"] = f"Members found where {share} of others are taken for members."
            others[f"membership_tnr{at}"] = f"Others found where {share} of members are taken for others."
        return members | others if self.attack == "loss" else members

    def _asked(self) -> tuple[float, ...]:
        return self.fpr if isinstance(self.fpr, tuple) else () if self.fpr is None else (self.fpr,)

    def refuses(self, data: Data) -> str | None:
        """Why there are too few samples, or inputs that take no noise; None where all is well."""
        import torch

        known = min(len(data.train), len(data.validation), self.samples or len(data.train))
        for rate in self._asked():
            if known * rate < _FEWEST:
                return (
                    f"{self.name}: of {known} samples, {100 * rate:g} % are fewer than {_FEWEST}: ask for a larger fpr,"
                    f" or samples: {round(_FEWEST / rate)} where there are as many"
                )
        if self.attack == "label-only":
            inputs, _ = data.train.fetch(torch.zeros(1, dtype=torch.int64))
            if not inputs.first.is_floating_point():
                return f"{self.name}: label-only adds noise to the first input, which is {shapes(inputs.first)}"
        return None

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Score members and others, and compare.

        Raises:
            TrialError: ``modified-entropy`` of a task that does not choose one class per sample, ``label-only`` of one
                that knows no right and wrong, ``lira`` of a model of which no untrained copy can be made or that takes
                longer than ``seconds``; or what is no number.
        """
        model, ctx = self.focused(model, ctx)
        shadows = self._shadows(ctx) if self.attack == "lira" else None
        found = self._scores(model, ctx, shadows)
        dense: Scores | None = self.kept(ctx, lambda: found if ctx.of_dense else self._scores(ctx.dense, ctx, shadows))
        dense = None if ctx.of_dense else dense
        rates = found.found_at(self._asked(), dense) if self._asked() else []
        if self.attack == "loss" and rates:
            rates += found.turned().found_at(self._asked(), dense and dense.turned())
        return {**found.measured(dense), **dict(zip(self._rates(), rates, strict=True))}

    def of_front(self, models: Iterable[nn.Module], ctx: EvaluationContext) -> Mapping[str, Measured]:
        """What an attacker finds who asks all of them and the dense model, and more than of the dense model alone.

        Args:
            models: Predict from inputs in input units; asked one after the other.
            ctx: The split of the others.

        Returns:
            `front_leakage_auc` and `front_leakage_advantage`, each with its difference from the dense model's.

        Raises:
            TrialError: As of `evaluate`.
        """
        from autoprune_evaluators._together import together

        dense, alone = self.focused(ctx.dense, ctx)
        shadows = self._shadows(alone) if self.attack == "lira" else None
        others = (self.focused(model, ctx)[0] for model in models)
        each = [self._scores(model, alone, shadows) for model in chain((dense,), others)]
        found = together(each).measured(each[0])
        return {f"front_leakage_{name.removeprefix('membership_')}": value for name, value in found.items()}

    def _scores(self, model: nn.Module, ctx: EvaluationContext, shadows: Shadows | None) -> Scores:
        from autoprune_evaluators._membership import Scores

        members, others = self._both(model, ctx, self._score(ctx))
        if shadows is not None:
            members, others = shadows.scores(members, others)
        if not bool(members.isfinite().all() and others.isfinite().all()):
            raise TrialError(f"{self.name}: the model gives what is no number")
        return Scores(members, others)

    def _both(
        self, model: nn.Module, ctx: EvaluationContext, score: Callable[[nn.Module, Inputs, Any], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Of members, (M,), and of others, (N,)."""
        import torch

        alike = self.model_copy(update={"samples": self._count(ctx)})
        with torch.inference_mode():
            members, others = (
                torch.cat([score(model, *batch) for batch in alike.batches(each)]).cpu()
                for each in (replace(ctx, split="train"), ctx)
            )
        return members, others

    def _count(self, ctx: EvaluationContext) -> int:
        """Samples of either split."""
        splits = (ctx.data.train, ctx.data.split(ctx.split))
        return min(self.samples or len(splits[0]), *map(len, splits))

    def _score(self, ctx: EvaluationContext) -> Callable[[nn.Module, Inputs, Any], Tensor]:
        """What tells members of a batch."""
        from autoprune_evaluators._label_only import robustness
        from autoprune_evaluators._lira import confidence
        from autoprune_evaluators._membership import certainty

        if self.attack == "label-only":
            return partial(
                robustness,
                task=ctx.task,
                deviations=self._noise(ctx),
                bounds=ctx.data.bounds,
                generator=ctx.generator(),  # begins anew for every model, so that all meet the same noise
            )
        if self.attack == "loss":
            return lambda model, inputs, targets: -losses(ctx.task, inputs.feed(model), targets).double()
        of = partial(certainty if self.attack == "modified-entropy" else confidence, self.name, ctx.task)
        return lambda model, inputs, targets: of(inputs.feed(model), targets)

    def _noise(self, ctx: EvaluationContext) -> torch.Tensor:
        """Deviations of the noise, (K,): in even steps up to that of the values of inputs."""
        import torch

        def found() -> float:
            batch = next(ctx.data.train.batches(_SCALED, generator=torch.Generator().manual_seed(0)))
            return float(batch[0].first.double().std())

        return torch.arange(1, self.queries + 1) / self.queries * ctx.memo(("autoprune_evaluators.deviation",), found)

    def _shadows(self, ctx: EvaluationContext) -> Shadows:
        """Of the dense architecture, made once in a study."""
        import torch

        from autoprune.toolkit.training import Training
        from autoprune_evaluators._lira import Shadows, shadows

        def rows(split: Split) -> Tensor:
            """Those that `batches` takes, in its order."""
            return torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[: self._count(ctx)]

        options = Training(epochs=self.epochs, batch_size=max(2, self.batch_size), optimizer="adamw", lr=self.lr)

        def made() -> Mapping[str, Tensor]:
            trained = shadows(
                ctx,
                name=self.name,
                count=self.shadows,
                options=options,
                seconds=self.seconds,
                measured=lambda model: self._both(model, ctx, self._score(ctx)),
                rows=(rows(ctx.data.train), rows(ctx.data.split(ctx.split))),
                head=self.head,
            )
            return trained.tensors()

        told = (self.shadows, options.model_dump_json(), self.samples, self.head, str(ctx.device), ctx.split)
        key = f"{self.name} {' '.join(map(str, told))}"
        return ctx.memo(key, lambda: Shadows.of_tensors(ctx.once(key, made), self.shadows))

    def final(self) -> Self:
        """The same on as many samples as there are."""
        return self.model_copy(update={"samples": None})
