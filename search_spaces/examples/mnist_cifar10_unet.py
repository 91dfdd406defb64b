"""Digits of MNIST on photos of CIFAR-10, to be found pixel by pixel: the pictures, a small U-Net, its training.

    AUTOPRUNE_DATA=/path/to/folder python search_spaces/examples/mnist_cifar10_unet.py

writes both to made/mnist_cifar10_unet beside this file, in less than a minute. The folder holds
data/{mnist,cifar10}/{train,test}.parquet; a relative one starts at this file's folder.
"""

from __future__ import annotations

from pathlib import Path

import torch
from making import images, made, train
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

SAMPLES = {"train": 1500, "validation": 300, "test": 500}
CLASSES = 2
"""Photo, and digit."""
OPACITY = 0.8
"""Of the ink: what is below shines through."""
IGNORED = 255
"""Of pixels at the edge of a stroke: neither the one nor the other."""


class UNet(nn.Module):
    """Three convolutions that halve the picture and three that double it, each beside what it had before.

    Ronneberger et al., *U-Net: Convolutional Networks for Biomedical Image Segmentation*, arXiv:1505.04597.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down1 = self._down(3, width)
        self.down2 = self._down(width, 2 * width)
        self.down3 = self._down(2 * width, 4 * width)
        self.up3 = self._up(4 * width, 2 * width)
        self.up2 = self._up(4 * width, width)
        self.up1 = nn.ConvTranspose2d(2 * width, CLASSES, 2, stride=2)

    @staticmethod
    def _down(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    @staticmethod
    def _up(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, classes, H, W), where 8 divides both sides."""
        half = self.down1(x)
        quarter = self.down2(half)
        eighth = self.down3(quarter)
        quarter = torch.cat([quarter, self.up3(eighth)], 1)
        half = torch.cat([half, self.up2(quarter)], 1)
        return self.up1(half)


def composed(split: str) -> tuple[Tensor, Tensor]:
    """Photos with a digit somewhere on them, (N, 3, 32, 32) uint8, and the class of each pixel, (N, 32, 32) uint8."""
    count = SAMPLES[split]
    generator = torch.Generator().manual_seed(count)
    strokes, photos = (images(name).split(split).fetch(torch.arange(count))[0].first for name in ("mnist", "cifar10"))
    colours = torch.rand((count, 3, 1, 1), generator=generator)
    shifts = torch.randint(5, (count, 2), generator=generator).tolist()
    ink = torch.stack([pad(each, (x, 4 - x, y, 4 - y)) for each, (y, x) in zip(strokes, shifts, strict=True)])
    masks = torch.where(ink > 0.5, 1, torch.where(ink > 0.1, IGNORED, 0))
    pictures = photos.lerp(colours.expand_as(photos), OPACITY * ink)
    return (pictures * 255).round().byte(), masks.squeeze(1).byte()


def write(folder: Path, pictures: Tensor, masks: Tensor) -> None:
    """As PNG files of the same names in ``images`` and ``masks``."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (picture, mask) in enumerate(zip(pictures.permute(0, 2, 3, 1).numpy(), masks.numpy(), strict=True)):
        Image.fromarray(picture).save(folder / "images" / f"{number:04}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:04}.png")


def main() -> None:
    """Compose the pictures, train the net on them, and save both."""
    torch.manual_seed(0)
    parts, network, folder = {split: composed(split) for split in SAMPLES}, UNet(), made("mnist_cifar10_unet")
    for split, (pictures, masks) in parts.items():
        write(folder / split, pictures, masks)
    pictures, masks = parts["train"]

    def loss(i: Tensor) -> Tensor:
        return cross_entropy(network(pictures[i] / 255), masks[i].long(), ignore_index=IGNORED)

    train(network, len(pictures), loss, epochs=6, batch_size=32, lr=1e-2)
    save_file(network.state_dict(), folder / "unet.safetensors")
    pictures, masks = parts["test"]
    with torch.inference_mode():
        found = network(pictures / 255).argmax(1)
    digit, counted = masks == 1, masks != IGNORED
    share = ((found == 1) & digit).sum() / (((found == 1) & counted) | digit).sum()
    print(f"intersection over union of the digits, test pictures: {share:.3f}")


if __name__ == "__main__":
    main()
