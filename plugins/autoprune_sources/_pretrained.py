"""Folders of transformers, opened without a download, and without running what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from autoprune import DataError
from autoprune.plugin import SourceContext
from autoprune.toolkit.files import existing, listed, near
from autoprune.toolkit.packages import optional

if TYPE_CHECKING:
    from autoprune_sources.huggingface_model import HuggingFace


_AUTO = "AutoModel"
_ATTENTION = (None, "eager", "sdpa", "flex_attention")


@dataclass(frozen=True)
class Pretrained:
    """A folder of transformers, its configuration read."""

    folder: Path
    config: Any
    opener: Any
    """The Auto class, or the model's own."""
    options: dict[str, Any]
    """Of every way to open it."""

    @classmethod
    def of(cls, source: HuggingFace, ctx: SourceContext) -> Pretrained:
        """Read the configuration.

        Raises:
            DataError: The package or the folder is missing, or they do not fit.
        """
        transformers = optional("transformers")
        folder = existing(source.path / "config.json", ctx).parent
        with _told(folder), _quiet(transformers):
            config, unknown = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, return_unused_kwargs=True, **source.args
            )
        if unknown:
            name = min(unknown)
            raise DataError(f"args: the configuration has no entry {name!r}{near(name, config.to_dict())}")
        for part in (config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", ()))):
            if (kernel := getattr(part, "_attn_implementation", None)) not in _ATTENTION:
                raise DataError(
                    f"{folder / 'config.json'} asks for attention {kernel!r:.100}, which transformers would fetch and"
                    " run; take attn_implementation out of it, and name eager or sdpa by `attention`"
                )
        options: dict[str, Any] = {"dtype": torch.float32}
        if source.attention:
            options["attn_implementation"] = source.attention
        return cls(folder, config, _opener(transformers, config, source.auto, folder), options)

    def built(self) -> nn.Module:
        """The model with random weights."""
        transformers = optional("transformers")
        make = getattr(self.opener, "from_config", None) or self.opener._from_config
        with _told(self.folder), _quiet(transformers):
            network: nn.Module = make(self.config, **self.options)
            if (self.folder / "generation_config.json").is_file() and hasattr(network, "generation_config"):
                network.generation_config = transformers.GenerationConfig.from_pretrained(
                    self.folder, local_files_only=True
                )
        return network

    def loaded(self) -> nn.Module:
        """The model with the weights of the folder.

        Raises:
            DataError: There are none, or they are not all of the model's.
        """
        with _told(self.folder), _quiet(optional("transformers")):
            network, told = self.opener.from_pretrained(
                self.folder,
                config=self.config,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                ignore_mismatched_sizes=True,  # they are told below
                output_loading_info=True,
                **self.options,
            )
        wrong = [str(each[0] if isinstance(each, tuple) else each) for each in told["mismatched_keys"]]
        faults = [f"wrong shape: {listed(sorted(wrong), most=3)}"] if wrong else []
        if told["missing_keys"]:
            faults.append(f"missing: {listed(sorted(told['missing_keys']), most=3)}")
        if faults:
            raise DataError(
                f"{self.folder} does not have the weights of {type(network).__name__}; {'; '.join(faults)}: name the"
                f" class that was trained with {{auto: …}} (the folder is of {_architecture(self.config) or 'none'})"
            )
        made: nn.Module = network
        return made


def _opener(transformers: Any, config: Any, auto: str | None, folder: Path) -> Any:
    name = auto or _architecture(config)
    if not name:
        raise DataError(f"{folder / 'config.json'} does not say which class saved it: write {{auto: AutoModelFor…}}")
    opener = getattr(transformers, name, None)
    if not _opens(name, opener):
        known = [each for each in dir(transformers) if each.startswith(_AUTO)]
        raise DataError(f"transformers has no model {name!r:.100}{near(name[:100], known)}")
    return opener


def _opens(name: str, opener: Any) -> bool:
    """Whether it is a class of models, or one that finds the class."""
    return isinstance(opener, type) and (name.startswith(_AUTO) or issubclass(opener, nn.Module))


def _architecture(config: Any) -> str:
    return str(next(iter(config.architectures or ()), ""))


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What transformers raises, in one line, with what helps.

    Raises:
        DataError: In place of it.
    """
    try:
        yield
    except Exception as error:  # transformers raises many kinds; each means the same to the user
        cause = str(error).strip().partition("\n")[0][:300]
        if isinstance(error, OSError) and "no file named" in cause:
            raise DataError(
                f"{folder} has no weights (model.safetensors); write them by model.save_pretrained(folder), or fetch"
                f" them by hf download NAME --local-dir {folder.name}"
            ) from error
        raise DataError(f"{folder} cannot be opened: {type(error).__name__}: {cause}") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Bars and reports of its own do not go with a search's."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
