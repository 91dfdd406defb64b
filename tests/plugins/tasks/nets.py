"""Small nets for each task, made by a factory: copied beside a spec by the tests that search."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WORDS = 12


def perceptron(inputs: int, outputs: int, hidden: int = 32) -> nn.Module:
    """Of vectors, or of each step of a sequence."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def labels() -> nn.Module:
    """Scores of 5 labels, (N, 5), of vectors (N, 12)."""
    return perceptron(12, 5)


def pixels() -> nn.Module:
    """Scores of 3 classes for each pixel, (N, 3, 8, 8), of images (N, 3, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1)
    )


class NextWord(nn.Module):
    """Scores of the next word by the word before, beside what nobody asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 16)
        self.scores = perceptron(16, WORDS)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        embedded = self.words(input_ids)
        return {"logits": self.scores(embedded), "hidden": embedded}


class MissingWord(nn.Module):
    """Scores of each word by itself and its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS + 1, 16)  # and the mask
        self.mix = nn.Conv1d(16, 32, 3, padding=1)
        self.scores = nn.Conv1d(32, WORDS, 1)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.scores(self.mix(self.words(input_ids).mT).relu()).mT  # type: ignore[no-any-return]


class Translator(nn.Module):
    """Scores of the words of an answer, by the words of the question and the answer's word before."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = nn.Embedding(WORDS, 16)
        self.said = nn.Embedding(WORDS, 16)
        self.scores = perceptron(16, WORDS)

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor) -> Any:
        return {"logits": self.scores(self.asked(input_ids) + self.said(decoder_input_ids))}


class Heads(nn.Module):
    """A kind, (N, 3), and a size, (N, 1), of vectors (N, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.kind = nn.Linear(32, 3)
        self.size = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.body(x)
        return {"kind": self.kind(hidden), "size": self.size(hidden)}


class Towers(nn.Module):
    """Vectors of images and of texts, and how they fit."""

    def __init__(self) -> None:
        super().__init__()
        self.image = perceptron(12, 6)
        self.text = perceptron(9, 6)

    def forward(self, image: Tensor, text: Tensor) -> dict[str, Tensor]:
        images, texts = self.image(image), self.text(text)
        return {"image_embeds": images, "text_embeds": texts, "logits_per_image": images @ texts.mT}


NETS: dict[str, Any] = {
    "multilabel": labels,
    "segmentation": pixels,
    "causal-lm": NextWord,
    "masked-lm": MissingWord,
    "seq2seq-lm": Translator,
    "multi-head": Heads,
    "embedding": Towers,
}


def net(task: str) -> nn.Module:
    """The one for a task."""
    torch.manual_seed(0)
    return NETS[task]()  # type: ignore[no-any-return]
