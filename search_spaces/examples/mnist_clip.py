"""Pictures of two coloured digits and captions of them in one space: the data, two towers, and their training.

    AUTOPRUNE_DATA=/path/to/folder python search_spaces/examples/mnist_clip.py

writes data and towers to made/mnist_clip beside this file, in less than a minute. The folder holds
data/mnist/{train,test}.parquet; a relative one starts at this file's folder. The towers are trained as in Radford et
al., *Learning Transferable Visual Models From Natural Language Supervision*, arXiv:2103.00020.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from digit_pairs import SAMPLES, pairs
from making import made, train
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

COLOURS = {"red": (1.0, 0.2, 0.2), "green": (0.2, 1.0, 0.2), "blue": (0.3, 0.4, 1.0)}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = ("a", "left", "of", *COLOURS, *DIGITS)
TEMPERATURE = 0.1


class Attention(nn.Module):
    """Every word looks at every word of its caption, with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) to (N, T, C)."""
        query, key, value = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (self.query(x), self.key(x), self.value(x))
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))


class TextTower(nn.Module):
    """A transformer of one layer, and the mean over the words."""

    def __init__(self, words: int, length: int, width: int, heads: int, embedding: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.randn(length, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.neurons = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.project = nn.Linear(width, embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T) to (N, D)."""
        x = self.words(tokens) + self.position
        x = x + self.attention(self.norm1(x))
        x = x + self.neurons(self.norm2(x))
        return self.project(x.mean(1))


class ImageTower(nn.Module):
    """Three convolutions and a projection of what they see in the left and in the right half."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
                )
                for inputs, outputs in itertools.pairwise(widths)
            )
        )
        self.project = nn.Linear(4 * width * 2 * 4, embedding)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 14, 28) to (N, D)."""
        return self.project(self.layers(images).flatten(1))


class TwoTowers(nn.Module):
    """Pictures and captions to unit vectors: those of a picture and its caption are near."""

    def __init__(self, width: int = 16, text_width: int = 32, heads: int = 4, embedding: int = 32) -> None:
        super().__init__()
        self.image = ImageTower(width, embedding)
        self.text = TextTower(len(WORDS), 7, text_width, heads, embedding)

    def forward(self, images: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """Pictures (N, 3, 14, 28) and captions (N, 7) to ``image`` and ``text``, (N, D) each."""
        return {"image": normalize(self.image(images), dim=1), "text": normalize(self.text(tokens), dim=1)}


def captioned(split: str) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, 14, 28) in [0, 1], and captions as words' places, (N, 7): a red seven left of a blue two."""
    halves, digits = pairs(split)
    generator = torch.Generator().manual_seed(len(digits[0]))
    colours = torch.randint(len(COLOURS), digits.shape, generator=generator)
    palette = torch.tensor(list(COLOURS.values()))
    painted = halves * palette[colours][..., None, None]  # (2, N, 3, 14, 14)
    a, left, of = (torch.full_like(digits[0], WORDS.index(word)) for word in ("a", "left", "of"))
    colour, digit = colours + WORDS.index("red"), digits + WORDS.index("zero")
    tokens = torch.stack([a, colour[0], digit[0], left, of, colour[1], digit[1]], 1)
    return torch.cat(list(painted), 3), tokens


def contrast(said: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of finding the caption of each picture among the batch's, and the picture of each caption."""
    likeness = said["image"] @ said["text"].T / TEMPERATURE
    own = torch.arange(len(likeness))
    return (cross_entropy(likeness, own) + cross_entropy(likeness.T, own)) / 2


def recall(outputs: dict[str, Tensor], targets: object) -> float:  # noqa: ARG001  of vectors alone
    """Share of the pictures whose caption is nearer than all others: a metric, as the spec names it."""
    likeness = outputs["image"] @ outputs["text"].T
    return (likeness.diagonal() > likeness.amax(1) - 1e-6).float().mean().item()  # the same caption may stand twice


def main() -> None:
    """Paint the pictures, train the towers on them, and save both."""
    torch.manual_seed(0)
    parts, network, folder = {split: captioned(split) for split in SAMPLES}, TwoTowers(), made("mnist_clip")
    images, tokens = parts["train"]
    train(network, len(images), lambda i: contrast(network(images[i], tokens[i])), epochs=4, batch_size=128, lr=1e-2)
    save_file(network.state_dict(), folder / "towers.safetensors")
    arrays = {}
    for split, (images, tokens) in parts.items():
        arrays |= {f"images_{split}": (images * 255).round().byte().numpy(), f"tokens_{split}": tokens.numpy()}
    np.savez_compressed(folder / "captioned.npz", **arrays)
    images, tokens = parts["test"]
    with torch.inference_mode():
        found = recall(network(images, tokens), None)
    print(f"of {len(tokens)} captions, the right one is found for {found:.3f} of the test pictures")


if __name__ == "__main__":
    main()
