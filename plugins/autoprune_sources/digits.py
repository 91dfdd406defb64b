"""The digits of scikit-learn: real data that needs no file."""

from __future__ import annotations

from pydantic import Field

from autoprune.plugin import Data, DataSource, SourceContext
from autoprune_sources._options import Normalize


class Digits(DataSource):
    """1,797 handwritten digits of 8x8 grey pixels in [0, 1]: 60 % train, 20 % validation, 20 % test.

    The test part of Alpaydin and Kaynak, *Optical Recognition of Handwritten Digits*, UCI, 1998.
    """

    name = "digits"

    normalize: Normalize | None = Field(
        default=None, description="Mean and standard deviation of the one channel, applied in front of the network."
    )

    def load(self, ctx: SourceContext) -> Data:  # noqa: ARG002 - comes with scikit-learn, reads no file
        """The splits, always the same."""
        import torch
        from sklearn.datasets import load_digits

        from autoprune.toolkit.splits import Samples, three_splits

        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).div(16).unsqueeze(1)
        samples = Samples(targets=torch.tensor(digits.target, dtype=torch.int64), inputs=images.__getitem__)
        splits = three_splits({"train": samples}, validation=0.2, test=0.2)
        return Data(
            **splits,
            classes=10,
            normalization=None if self.normalize is None else self.normalize.of(1),
            bounds=(0.0, 1.0),
        )
