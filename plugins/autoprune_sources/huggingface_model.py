"""A model that transformers saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from autoprune.plugin import Data, ModelSource, SourceContext

if TYPE_CHECKING:
    from torch import nn

_FIRST = "AutoModel"


def _auto(name: str) -> str:
    if not name.startswith(_FIRST) or not name.isidentifier():
        raise ValueError(f"write one of transformers' Auto classes, as in {_FIRST}ForSequenceClassification")
    return name


class HuggingFace(ModelSource):
    """A folder that ``save_pretrained`` wrote: ``{use: huggingface, path: bert, auto: AutoModelForMaskedLM}``.

    Nothing is downloaded: ``hf download NAME --local-dir bert`` fetches a model of the hub. No code in the folder runs,
    and weights are read from safetensors, or by PyTorch's ``weights_only`` loading, as float32. Needs the extra
    ``autoprune[huggingface]``.

    A pruned model is of the same class, unless its code cannot have other sizes and its exported graph is pruned (see
    ``search_space.form``): ``generate`` works, and where layers that are alike stayed alike, so does
    ``save_pretrained``, whose folder ``from_pretrained`` opens.
    """

    name = "huggingface"

    path: Path = Field(description="The folder, with its config.json and weights.")
    auto: Annotated[str, AfterValidator(_auto)] | None = Field(
        default=None,
        description="Auto class that opens it, such as AutoModelForSequenceClassification; the class that saved it if"
        " left out.",
    )
    attention: Literal["eager", "sdpa"] | None = Field(
        default=None, description="How attention is computed; transformers' choice if left out."
    )
    args: dict[str, Any] = Field(
        default={},
        description="Entries of the configuration that are to be others than in its file: {use_cache: false}.",
    )

    @property
    def runs_named_code(self) -> bool:
        """Not it: the classes are those of transformers, and no code of the folder runs."""
        return False

    def build(self, ctx: SourceContext) -> nn.Module:
        """The model of the configuration, with random weights of the seed."""
        import torch

        from autoprune_sources._pretrained import Pretrained

        folder = Pretrained.of(self, ctx)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ctx.seed)
            return folder.built()

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:  # noqa: ARG002 - the weights are in the folder
        """The same with the folder's weights."""
        import torch

        from autoprune_sources._pretrained import Pretrained

        folder = Pretrained.of(self, ctx)
        with torch.random.fork_rng(devices=[]):
            return folder.loaded()
