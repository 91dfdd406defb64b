"""Small models of transformers with random weights, cut, saved and opened; for `test_pretrained_models`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import autoprune
from autoprune.plugin import Inputs, ModelSource, SourceContext
from autoprune.structure import Structure, discover, write_pruned
from autoprune.toolkit.packages import optional
from autoprune_sources.huggingface_model import HuggingFace

transformers = optional("transformers")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

PLAIN = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_SIDES = {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in {"layers": 3, "attention_heads": 4, "ffn_dim": 48}.items()
}
_IMAGE = {key: PLAIN[key] for key in ("hidden_size", "num_attention_heads", "intermediate_size")}
_IMAGE |= {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8}


@dataclass(frozen=True)
class Case:
    """A kind of model, in its smallest sensible form."""

    auto: str
    config: str
    options: Mapping[str, Any]
    takes: tuple[str, ...] = ("input_ids", "attention_mask")
    counts: tuple[str, ...] = ("logits",)

    def saved(self, folder: Path) -> nn.Module:
        """The model, as `save_pretrained` writes it to a folder. Weights are such that a wrong cut shows."""
        torch.manual_seed(0)
        made = getattr(transformers, self.auto).from_config(getattr(transformers, self.config)(**self.options)).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(6)
                else:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        made.save_pretrained(folder)
        return made  # type: ignore[no-any-return]

    def inputs(self, samples: int = 3, seed: int = 0) -> dict[str, Tensor]:
        """Random ones; of texts, some end early."""
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(3, 99, (samples, 9), generator=generator)
        mask = (torch.arange(9)[None] < torch.tensor([9, 6, 9, 7])[:samples, None]).long()
        every = {
            "input_ids": ids,
            "attention_mask": mask,
            "decoder_input_ids": ids[:, :6],
            "pixel_values": torch.randn(samples, 3, 32, 32, generator=generator),
        }
        return {name: every[name] for name in self.takes}

    def pick(self, returned: Any) -> Any:
        return {name: returned[name] for name in self.counts}


_TEXTS = ("input_ids", "attention_mask", "decoder_input_ids")
CASES = {
    "bert": Case("AutoModelForSequenceClassification", "BertConfig", PLAIN),
    "distilbert": Case(
        "AutoModelForSequenceClassification",
        "DistilBertConfig",
        {"vocab_size": 99, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
    ),
    "roberta": Case("AutoModelForSequenceClassification", "RobertaConfig", PLAIN),
    "gpt2": Case(
        "AutoModelForCausalLM",
        "GPT2Config",
        {"vocab_size": 99, "n_embd": 32, "n_layer": 3, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "opt": Case("AutoModelForCausalLM", "OPTConfig", {**PLAIN, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "llama": Case("AutoModelForCausalLM", "LlamaConfig", {**PLAIN, "num_key_value_heads": 2}),
    "t5": Case(
        "AutoModelForSeq2SeqLM",
        "T5Config",
        {
            "vocab_size": 99,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
        },
        _TEXTS,
    ),
    "bart": Case(
        "AutoModelForSeq2SeqLM",
        "BartConfig",
        {**_SIDES, "d_model": 32, "vocab_size": 99, "pad_token_id": 0, "max_position_embeddings": 64},
        _TEXTS,
    ),
    "vit": Case("AutoModelForImageClassification", "ViTConfig", _IMAGE, ("pixel_values",)),
    "clip": Case(
        "AutoModel",
        "CLIPConfig",
        {"text_config": PLAIN, "vision_config": _IMAGE, "projection_dim": 16},
        ("input_ids", "attention_mask", "pixel_values"),
        ("image_embeds", "text_embeds"),
    ),
}  # fmt: skip
TALKERS = ("gpt2", "opt", "llama", "t5", "bart")

Share = Callable[[Any], float]


def evenly(structure: Structure, share: Share, blocks: list[int] | None = None) -> dict[str, Tensor]:
    """A candidate: of each group that share of units, at random; those thirds of the blocks."""
    generator = torch.Generator().manual_seed(1)
    kept: dict[str, Tensor] = {}
    for group in structure.groups:
        if group.granularity == "block":
            if blocks is not None:
                stay = [number for number in range(group.units) if number * 3 // group.units in blocks]
                kept[group.name] = torch.tensor(stay or [group.units - 1])
        else:
            stays = round(share(group) * group.units)
            kept[group.name] = torch.randperm(group.units, generator=generator)[:stays].sort().values
    return kept


@dataclass(frozen=True)
class Prepared:
    """A model in a folder, and what can be cut of it."""

    case: Case
    network: nn.Module
    structure: Structure
    folder: Path

    @classmethod
    def of(cls, name: str, folder: Path) -> Prepared:
        """Made now."""
        case = CASES[name]
        network = case.saved(folder / name)
        return cls(case, network, found(case, network), folder / name)

    def cut(self, kept: Mapping[str, Tensor]) -> nn.Module:
        return self.structure.cut(self.network, kept).eval()

    def write(self, kept: Mapping[str, Tensor], folder: Path) -> nn.Module:
        """A cut, saved in the folder ``pruned`` as the study does."""
        return write(self.case, self.network, self.structure, kept, folder, source=HuggingFace(path=self.folder))


def found(case: Case, network: nn.Module) -> Structure:
    """What can be cut of it."""
    return discover(network, Inputs.of(case.inputs()), ("channels", "blocks"), counts=case.pick)


def write(
    case: Case,
    network: nn.Module,
    structure: Structure,
    kept: Mapping[str, Tensor],
    folder: Path,
    *,
    source: ModelSource,
) -> nn.Module:
    """The same, of any model source, whose paths start at that folder, too."""
    small = structure.cut(network, kept).eval()
    write_pruned(
        folder / "pruned",
        small,
        plan=structure.plan(network, kept),
        kept=kept,
        cut_units={},
        source=source,
        ctx=SourceContext(folder, folder / "cache", seed=0),
        example=Inputs.of(case.inputs()),
    )
    return small


def predictions(case: Case, network: nn.Module) -> list[Any]:
    """Of other inputs, as lists."""
    with torch.no_grad():
        picked = case.pick(Inputs.of(case.inputs(seed=5)).feed(network))
    return [tensor.tolist() for tensor in picked.values()]


def words(case: Case, network: nn.Module, **options: Any) -> list[list[int]]:
    """What it writes, greedily."""
    given = {name: tensor for name, tensor in case.inputs(seed=5).items() if not name.startswith("decoder")}
    if case.takes == ("input_ids", "attention_mask"):  # what goes on is padded on the left
        given = {name: tensor.flip(1) for name, tensor in given.items()}
    made: Any = network.generate(**given, max_new_tokens=10, min_new_tokens=10, do_sample=False, **options)  # type: ignore[operator]
    return made.tolist()  # type: ignore[no-any-return]


def opened(name: str, folder: Path) -> dict[str, Any]:
    """What the saved model is and says, in this process; and what `from_pretrained` makes of what it saves."""
    case = CASES[name]
    network = autoprune.load_pruned(folder / "pruned")
    told: dict[str, Any] = {"class": type(network).__name__, "predictions": predictions(case, network)}
    if name in TALKERS:
        told |= {"cached": words(case, network, use_cache=True), "plain": words(case, network, use_cache=False)}
        told["tied"] = network.get_output_embeddings().weight is network.get_input_embeddings().weight  # type: ignore[operator]
    try:
        network.save_pretrained(folder / "again")  # type: ignore[operator]
    except autoprune.StructureError as error:
        return {**told, "refused": str(error), "written": (folder / "again").exists()}
    again = getattr(transformers, case.auto).from_pretrained(folder / "again", local_files_only=True).eval()
    told["again"] = predictions(case, again)
    told["config"] = again.config.to_dict()
    if name in TALKERS:
        told["again cached"] = words(case, again, use_cache=True)
    return told
