"""First-party sources of models and data."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import Component, hookimpl
from autoprune_sources.digits import Digits
from autoprune_sources.digits_cnn import DigitsCnn
from autoprune_sources.exported import Exported
from autoprune_sources.factory import Factory
from autoprune_sources.image_folder import ImageFolder
from autoprune_sources.live import LiveData, LiveModel
from autoprune_sources.npz import Npz
from autoprune_sources.parquet import Parquet
from autoprune_sources.pruned import Pruned
from autoprune_sources.text import Text


@hookimpl
def autoprune_components() -> Iterable[type[Component]]:
    """The sources of this package."""
    return (Factory, Exported, Pruned, DigitsCnn, Digits, Parquet, ImageFolder, Npz, Text, LiveModel, LiveData)
