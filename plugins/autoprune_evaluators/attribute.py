"""Whether a model gives away a column of the records it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from pydantic import Field

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Measured, Metric
from autoprune.plugin.task import shapes
from autoprune.toolkit import paired
from autoprune.toolkit.samples import SampleEvaluator

if TYPE_CHECKING:
    from torch import Tensor, nn

_FEW = 10
"""Values of a column up to which each is a class; of more, an attacker tells those above the median from the others."""


class AttributeInference(SampleEvaluator):
    """How much better an attacker who sees the model's outputs infers a column of its training records.

    The attacker knows whole records of the measured split, and of the train split all but the ``column``, and every
    target. Logistic regression learns the column on the former from other columns and targets, once with the model's
    outputs and once without; `attribute_advantage` is the share of train records whose column it then has right, less
    that share without the outputs: 0 where the model gives nothing away that the records do not. Of a column with more
    than ten values, it is whether one lies above the median. Fredrikson et al., *Privacy in pharmacogenetics*, USENIX
    Security 2014; Yeom et al., *Privacy risk in machine learning*, arXiv:1709.01604.

    The 95 % interval is that of the paired shares.
    """

    name = "attribute-inference"
    metrics = (
        Metric(
            "attribute_advantage",
            "fraction",
            "minimize",
            Cost.FORWARD,
            "Train records whose column an attacker has right with the outputs, less those without.",
        ),
    )

    column: int = Field(ge=0, description="Which column of the table is inferred, from 0.")
    samples: int | None = Field(
        default=1000, ge=2, description="Records of each split, a fixed random choice; all of them if null."
    )

    def refuses(self, data: Data) -> str | None:
        """Why it is no table of columns, or has no such column; None where all is well."""
        import torch

        inputs, _ = data.train.fetch(torch.zeros(1, dtype=torch.int64))
        first = inputs.first
        if len(inputs.tensors) > 1 or first.ndim != 2 or first.shape[1] < 2 or not first.is_floating_point():
            told = ", ".join(map(shapes, inputs.tensors))
            return f"{self.name} is of a table of numbers, inputs (N, K) with two columns or more; a sample is {told}"
        if self.column >= first.shape[1]:
            return f"{self.name}: there is no column {self.column}; there are {first.shape[1]}, counted from 0"
        return None

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Infer the column with and without the model's outputs.

        Raises:
            DataError: The data is no table, or has no such column.
            TrialError: The column is the same in all records that the attacker knows, or outputs are several by name or
                no numbers.
        """
        import torch

        model, ctx = self.focused(model, ctx)
        if fault := self.refuses(ctx.data):
            raise DataError(fault)
        table = self._table(ctx)
        baseline = ctx.memo((*self._key(ctx), "baseline"), lambda: table.right(None, None))
        found = self._right(model, ctx, table)
        dense = self.kept(ctx, lambda: found if ctx.of_dense else self._right(ctx.dense, ctx, table))
        ones = torch.ones(len(found))
        gained = paired.of_shares(found, baseline, ones)
        difference = None if ctx.of_dense else paired.of_shares(found, dense, ones)
        measured = Measured(
            value=gained.value, low=gained.low, high=gained.high, samples=len(found), difference=difference
        )
        return {"attribute_advantage": measured}

    def _key(self, ctx: EvaluationContext) -> tuple[object, ...]:
        return ("autoprune_evaluators.attribute", self.column, self.samples, self.head, str(ctx.device), ctx.split)

    def _right(self, model: nn.Module, ctx: EvaluationContext, table: _Table) -> Tensor:
        return table.right(self._outputs(model, ctx), self._outputs(model, replace(ctx, split="train")))

    def _outputs(self, model: nn.Module, ctx: EvaluationContext) -> Tensor:
        """Of each record, (N, O)."""
        import torch

        found = []
        with torch.inference_mode():
            for inputs, _ in self.batches(ctx):
                outputs = inputs.feed(model)
                if not isinstance(outputs, torch.Tensor):
                    raise TrialError(f"{self.name} is of one output, these are {shapes(outputs)}: name a head")
                found.append(outputs.double().cpu().flatten(1) if outputs.ndim > 1 else outputs.double().cpu()[:, None])
        whole = torch.cat(found)
        if not bool(whole.isfinite().all()):
            raise TrialError(f"{self.name}: the model gives what is no number")
        return whole

    def _table(self, ctx: EvaluationContext) -> _Table:
        """What the attacker knows and wants, made once in a study."""

        def made() -> _Table:
            import torch

            (known, seen), (wanted, theirs) = (self._records(each) for each in (ctx, replace(ctx, split="train")))
            both = torch.cat([known[:, self.column], wanted[:, self.column]])
            values = both.unique()  # type: ignore[no-untyped-call]
            median = known[:, self.column].median()
            count = len(values) if len(values) <= _FEW else 2
            classes = torch.searchsorted(values, both) if len(values) <= _FEW else (both > median).long()
            classes, hidden = classes[: len(known)], classes[len(known) :]
            if bool((classes == classes[0]).all()):
                raise TrialError(f"{self.name}: column {self.column} says the same of all {len(known)} known records")
            others = [n for n in range(known.shape[1]) if n != self.column]
            features = [torch.cat([x[:, others], t], 1) for x, t in ((known, seen), (wanted, theirs))]
            return _Table(features[0], features[1], classes, hidden, count)

        found: _Table = ctx.memo((*self._key(ctx), "table"), made)
        return found

    def _records(self, ctx: EvaluationContext) -> tuple[Tensor, Tensor]:
        """Inputs, (N, K), and targets as numbers, (N, T); classes are one column each."""
        import torch

        inputs, targets = zip(*((batch.first, targets) for batch, targets in self.batches(ctx)), strict=True)
        if not isinstance(targets[0], torch.Tensor):
            raise TrialError(f"{self.name} is of one target, these are {shapes(targets[0])}: name a head")
        told = torch.cat(targets).cpu()
        if ctx.data.classes is not None and told.ndim == 1 and not told.is_floating_point():
            told = torch.nn.functional.one_hot(told, ctx.data.classes)
        table, told = torch.cat(inputs).double().cpu(), told.double().reshape(len(told), -1)
        if not bool(table.isfinite().all() and told.isfinite().all()):
            raise TrialError(f"{self.name}: records hold what is no number")
        return table, told

    def final(self) -> Self:
        """The same on all records."""
        return self.model_copy(update={"samples": None})


@dataclass(frozen=True)
class _Table:
    known: Tensor
    """Other columns and targets of the attacker's records, (M, F)."""
    wanted: Tensor
    """Of the train records, (N, F)."""
    classes: Tensor
    """The column of the attacker's records, (M,) int64."""
    hidden: Tensor
    """That of the train records, (N,)."""
    count: int
    """Of classes."""

    def right(self, known: Tensor | None, wanted: Tensor | None) -> Tensor:
        """Which train records are inferred right, (N,), with the outputs of either, (M, O) and (N, O), or without."""
        import torch

        from autoprune_evaluators._logistic import Logistic

        features = self.known if known is None else torch.cat([self.known, known], 1)
        judged = self.wanted if wanted is None else torch.cat([self.wanted, wanted], 1)
        fitted = Logistic.fitted(features, self.classes, self.count)
        return (fitted.scores(judged).argmax(1) == self.hidden).double()
