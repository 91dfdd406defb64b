"""The thirty models of `any_model`, which nobody chose: a rule does.

Of transformers, seven models for sequence classification, seven causal language models and six for image
classification: of the alphabetical list of model types that an Auto class knows, every n-th from the first. Of timm, of
its modules in the alphabet every n-th from the first, ten, and of each the model with the fewest parameters.
Configurations of transformers are its own with the sizes of `SMALL` in place of theirs, and what they need besides
(`ALSO`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.toolkit.packages import optional

from .zoo import perturb

SAMPLES = 48
LENGTH = 12
PIXELS = 64
CLASSES = 3
VOCABULARY = 99

_WIDTH = dict.fromkeys("hidden_size d_model n_embd dim lru_width embed_dim".split(), 32)
_DEPTH = dict.fromkeys("num_hidden_layers n_layer num_layers".split(), 2)
_HEADS = {"num_attention_heads": 4, "n_head": 4, "num_key_value_heads": 2, "head_dim": 8}
_WIDE = dict.fromkeys("intermediate_size intermediate_size_mlp moe_intermediate_size dff ffn_dim".split(), 48)
_TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "n_positions": 64, "sliding_window": 8}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
_EXPERTS = {"n_routed_experts": 4, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
SMALL = {
    **_WIDTH,
    **_DEPTH,
    **_HEADS,
    **_WIDE,
    **_TEXT,
    **_TOKENS,
    **_EXPERTS,
    "image_size": PIXELS,
    "num_labels": CLASSES,
}
"""Entries of a configuration, where it has them and they are numbers."""
ALSO: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 24},
    "deepseek_v2": {
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "num_key_value_heads": 4,
        "first_k_dense_replace": 1,
    },
    "nemotron_h": {
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "n_groups": 2,
        "ssm_state_size": 8,
        "moe_shared_expert_intermediate_size": 48,
        "num_hidden_layers": None,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "hgnet_v2": {"depths": [1, 1, 1, 1], "stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [2, 2, 2, 2]},
    "mobilenet_v2": {"depth_multiplier": 0.35},
    "pvt_v2": {"image_size": PIXELS, "depths": [1, 1, 1, 1]},
    "swiftformer": {"depths": [1, 1, 1, 1]},
}
_LISTS = (
    ("AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", 7),
    ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", 7),
    ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES", 6),
)


@dataclass(frozen=True)
class AnyModel:
    """One of them."""

    source: str
    """``huggingface`` or ``timm``."""
    kind: str
    """Auto class, or module of timm."""
    name: str
    """Model type, or model of timm."""

    @property
    def key(self) -> str:
        return f"{self.source}/{self.name}"

    def prepare(self, folder: Path) -> dict[str, Any]:
        """Write the model with random weights and its data to a folder.

        Returns:
            The entries ``model``, ``data`` and ``task`` of its spec.
        """
        torch.manual_seed(0)
        text, talks = "Image" not in self.kind and self.source == "huggingface", "Causal" in self.kind
        args: dict[str, Any] = {}
        if self.source == "huggingface":
            network, pixels = _of_transformers(self.kind, self.name), PIXELS
        else:
            network, args, pixels = _of_timm(self.name)
        data = _texts(talks=talks) if text else _images(pixels)
        names = {"input_ids": "ids", "attention_mask": "mask"} if text else {"pixel_values": "x"}
        first = {keyword: torch.from_numpy(data[f"{array}_train"][:8]) for keyword, array in names.items()}
        perturb(_Called(network, list(first) if self.source == "huggingface" else []), tuple(first.values()))
        np.savez(folder / "data.npz", **data)  # type: ignore[arg-type]
        inputs: Any = names if self.source == "huggingface" else "x"
        spec = {"data": {"use": "npz", "path": "data.npz", "inputs": inputs, "targets": "ids" if talks else "y"}}
        spec["task"] = {"use": "causal-lm" if talks else "classification"}
        if self.source == "huggingface":
            network.save_pretrained(folder / "model")  # type: ignore[operator]
            return {**spec, "model": {"use": "huggingface", "path": "model", "auto": self.kind}}
        torch.save(network.state_dict(), folder / "model.pt")
        return {**spec, "model": {"use": "timm", "model": self.name, "args": args, "weights": "model.pt"}}


class _Called(nn.Module):
    """Takes by position what a network takes by keyword."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(**dict(zip(self.names, inputs, strict=True))) if self.names else self.network(*inputs)


def cases() -> Iterator[AnyModel]:
    """All thirty."""
    optional("transformers")
    from transformers.models.auto import modeling_auto

    for auto, mapping, count in _LISTS:
        known = sorted(dict(getattr(modeling_auto, mapping)))
        for number in range(count):
            yield AnyModel("huggingface", auto, known[number * len(known) // count])
    timm = optional("timm")
    modules = sorted(timm.list_modules())
    for number in range(10):
        module = modules[number * len(modules) // 10]
        yield AnyModel("timm", module, smallest(module))


def smallest(module: str) -> str:
    """The model of a module of timm that has the fewest parameters; of equal ones the first in the alphabet."""
    timm = optional("timm")

    def size(name: str) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in timm.create_model(name).parameters())

    return min(sorted(timm.list_models(module=module)), key=size)


def configuration(name: str) -> Any:
    """The small configuration of a model type."""
    config_of = optional("transformers").AutoConfig.for_model
    entries = config_of(name).to_dict()
    numbers = {key: value for key, value in entries.items() if isinstance(value, int | float) or value is None}
    options = {key: value for key, value in SMALL.items() if key in numbers or key == "num_labels"}
    options |= {key: value for key, value in _TOKENS.items() if key in entries}
    options |= ALSO.get(name, {})
    return config_of(name, **{key: value for key, value in options.items() if value is not None})


def _of_transformers(auto: str, name: str) -> nn.Module:
    config = configuration(name)
    config.architectures = []  # of one type there are several classes: the first
    network: nn.Module = getattr(optional("transformers"), auto).from_config(config)
    return network.eval()


def _of_timm(name: str) -> tuple[nn.Module, Mapping[str, Any], int]:
    """The model, its arguments and the size of images that it takes: small ones if it can."""
    timm = optional("timm")
    default = timm.get_pretrained_cfg(name).input_size[-1] if timm.get_pretrained_cfg(name) else PIXELS
    for args, pixels in (({"img_size": PIXELS}, PIXELS), ({}, PIXELS), ({}, default)):
        try:
            network = timm.create_model(name, num_classes=CLASSES, **args).eval()
            with torch.no_grad():
                network(torch.zeros(2, 3, pixels, pixels))
        except Exception:  # noqa: BLE001  it does not take that size
            continue
        return network, {"num_classes": CLASSES, **args}, pixels
    raise AssertionError(f"{name} takes no images")


def _texts(*, talks: bool) -> dict[str, np.ndarray[Any, Any]]:
    """Random tokens; some sentences end early, on the right."""
    random, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        ids = random.integers(3, VOCABULARY, (SAMPLES, LENGTH))
        mask = (np.arange(LENGTH) < random.integers(LENGTH // 2, LENGTH + 1, (SAMPLES, 1))).astype(np.int64)
        mask = np.ones_like(mask) if talks else mask
        arrays |= {f"ids_{split}": ids * mask, f"mask_{split}": mask, f"y_{split}": ids[:, 0] % CLASSES}
    return arrays


def _images(pixels: int) -> dict[str, np.ndarray[Any, Any]]:
    random, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        arrays[f"x_{split}"] = random.normal(size=(SAMPLES, 3, pixels, pixels)).astype(np.float32)
        arrays[f"y_{split}"] = random.integers(0, CLASSES, SAMPLES)
    return arrays
