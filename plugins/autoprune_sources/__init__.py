"""First-party sources of models and data."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl
from autoprune_sources.digits import Digits
from autoprune_sources.digits_cnn import DigitsCnn
from autoprune_sources.exported import Exported
from autoprune_sources.factory import Factory
from autoprune_sources.factory_data import FactoryData
from autoprune_sources.huggingface_data import HuggingFaceData
from autoprune_sources.huggingface_model import HuggingFace
from autoprune_sources.image_folder import ImageFolder
from autoprune_sources.image_mask_folder import ImageMaskFolder
from autoprune_sources.live import LiveData, LiveModel
from autoprune_sources.npz import Npz
from autoprune_sources.parquet import Parquet
from autoprune_sources.pruned import Pruned
from autoprune_sources.text import Text
from autoprune_sources.text_blocks import TextBlocks
from autoprune_sources.zoo_models import Timm, Torchvision


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The sources of this package."""
    return (
        Factory,
        HuggingFace,
        Timm,
        Torchvision,
        Exported,
        Pruned,
        DigitsCnn,
        Digits,
        Parquet,
        ImageFolder,
        ImageMaskFolder,
        Npz,
        Text,
        TextBlocks,
        HuggingFaceData,
        FactoryData,
        LiveModel,
        LiveData,
    )
