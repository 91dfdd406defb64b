"""Reading weights from files, never through a pickle, and fitting them into a network."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from autoprune import DataError
from autoprune.plugin import SourceContext
from autoprune.toolkit.files import existing, listed, near, plain_file
from autoprune_sources._budget import check_unpacked

_NESTED = ("state_dict", "model_state_dict", "model")
_PARALLEL = "module."


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, ``.pt`` or ``.pth`` file, by name.

    A checkpoint that holds them under ``state_dict`` or ``model`` is opened, and the prefix that DataParallel adds is
    taken off.

    Raises:
        DataError: The file is malformed, or holds more than tensors.
    """
    try:
        tensors = load_file(plain_file(file)) if file.suffix == ".safetensors" else _load_pickled(file)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file}: cannot be read as safetensors: {' '.join(str(error).split()):.300}") from error
    if tensors and all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    return tensors


def _load_pickled(file: Path) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(plain_file(file)):
            with zipfile.ZipFile(file) as archive:
                check_unpacked(file, sum(entry.file_size for entry in archive.infolist()))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except DataError:
        raise
    except Exception as error:  # torch and pickle raise many kinds; each means the same to the user
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{file}: cannot be read as plain weights, and nothing else is unpickled; "
            f"save model.state_dict(), best as .safetensors ({type(error).__name__}: {reason})"
        ) from error
    if isinstance(content, Mapping):
        content = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"{file}: holds no mapping of names to tensors; save model.state_dict()")
    return {str(name): tensor for name, tensor in content.items()}


def with_weights(network: nn.Module, weights: Path | None, ctx: SourceContext, *, strict: bool) -> nn.Module:
    """The network, with the weights of a file if one is named.

    Raises:
        DataError: It is not there, is malformed, or does not fit.
    """
    if weights is not None:
        file = existing(weights, ctx)
        fit(network, read_weights(file), file=file, strict=strict)
    return network


def fit(network: nn.Module, weights: Mapping[str, Tensor], *, file: Path, strict: bool) -> None:
    """Copy the weights into the network.

    Args:
        network: Changed in place.
        weights: Tensors by name.
        file: Where they came from, for errors.
        strict: Refuse names that only one side has.

    Raises:
        DataError: Names (if strict) or shapes do not fit, or no name fits at all.
    """
    own = network.state_dict()
    # The batch counters of batch norm are no weights, and older checkpoints lack them.
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in own]
    shapes = [
        f"{name} is {_shape(weights[name])}, the model's is {_shape(own[name])}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    faults = [f"wrong shape: {listed(shapes, most=3)}"] if shapes else []
    if strict or len(unexpected) == len(weights):
        if missing:
            faults.append(f"missing: {listed(missing, most=3)}")
        if unexpected:
            hints = [f"{name}{_hint(name, missing)}" for name in unexpected]
            faults.append(f"unknown to the model: {listed(hints, most=3)}")
    if faults:
        raise DataError(f"{file} does not fit the model; " + "; ".join(faults))
    fitting = OrderedDict((name, tensor) for name, tensor in weights.items() if name in own)
    # Names and shapes are those of today's code; some modules take what has no version for an older one's.
    fitting._metadata = getattr(own, "_metadata", None)  # type: ignore[attr-defined]
    network.load_state_dict(fitting, strict=False)


def _hint(name: str, missing: list[str]) -> str:
    return f" ({near(name, missing).removeprefix('; ')})" if "did you mean" in near(name, missing) else ""


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a number"
