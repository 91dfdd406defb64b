"""Two classifiers of sentences: a bidirectional LSTM and a small transformer.

Both take tokens (N, T), where 0 is padding and 1 an unknown word, as `use: text` gives them. They are small, and so is
the data: dropout of whole words and of activations is what keeps them from learning the sentences by heart. Both
dropouts work in train mode alone, so the short training after a cut has them too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

PADDING, UNKNOWN = 0, 1


def word_embedding(vocabulary: int, width: int) -> nn.Embedding:
    """Words start near to zero, so that the rare ones, which hardly are trained, add little noise."""
    embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
    with torch.no_grad():
        embedding.weight.mul_(0.1)
    return embedding


class WordDropout(nn.Module):
    """Makes every word an unknown one now and then. Iyyer et al., *Deep Unordered Composition*, ACL 2015."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T) to (N, T)."""
        if not self.training:
            return tokens
        dropped = torch.rand(tokens.shape, device=tokens.device) < self.probability
        return tokens.masked_fill(dropped & (tokens != PADDING), UNKNOWN)


class Classifier(nn.Module):
    """A hidden layer over the mean of all words' states."""

    def __init__(self, inputs: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, is_word: Tensor) -> Tensor:
        """States (N, T, C) and which of them are words' (N, T) to (N, classes)."""
        weights = is_word.unsqueeze(2).to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1)
        return self.output(self.dropout(functional.relu(self.hidden(self.dropout(mean)))))


class LstmClassifier(nn.Module):
    """Embedding, LSTM of several layers in both directions, mean over the words, hidden layer."""

    def __init__(
        self,
        vocabulary: int,
        width: int,
        units: int,
        layers: int,
        hidden: int,
        classes: int,
        dropout: float,
        word_dropout: float,
    ) -> None:
        super().__init__()
        self.word_dropout = WordDropout(word_dropout)
        self.embedding = word_embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(width, units, layers, batch_first=True, bidirectional=True, dropout=dropout)
        self.classifier = Classifier(2 * units, hidden, classes, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T) to (N, classes)."""
        embedded = self.dropout(self.embedding(self.word_dropout(tokens)))
        states, _ = self.lstm(embedded)
        return self.classifier(states, tokens != PADDING)


class Attention(nn.Module):
    """Every word looks at every word of its sentence, with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, is_word: Tensor) -> Tensor:
        """(N, T, C) and which words may be looked at (N, T) to (N, T, C)."""
        query, key, value = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (N, heads, T, C / heads)
            for each in (self.query(x), self.key(x), self.value(x))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=is_word[:, None, None, :])
        return self.output(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and a feed-forward net, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, neurons: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, neurons)
        self.contract = nn.Linear(neurons, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, is_word: Tensor) -> Tensor:
        """(N, T, C) to (N, T, C)."""
        x = x + self.dropout(self.attention(self.norm1(x), is_word))
        return x + self.dropout(self.contract(self.dropout(functional.gelu(self.expand(self.norm2(x))))))


class TransformerClassifier(nn.Module):
    """Embedding of words and positions, encoder layers, mean over the words, hidden layer."""

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int,
        heads: int,
        neurons: int,
        layers: int,
        hidden: int,
        classes: int,
        dropout: float,
        word_dropout: float,
    ) -> None:
        super().__init__()
        self.word_dropout = WordDropout(word_dropout)
        self.embedding = word_embedding(vocabulary, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(width, heads, neurons, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.classifier = Classifier(width, hidden, classes, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T) to (N, classes)."""
        is_word = tokens != PADDING
        x = self.dropout(self.embedding(self.word_dropout(tokens)) + self.position[: tokens.shape[1]])
        for layer in self.layers:
            x = layer(x, is_word)
        return self.classifier(self.norm(x), is_word)


def lstm_classifier(
    vocabulary: int = 8000,
    width: int = 64,
    units: int = 96,
    layers: int = 2,
    hidden: int = 64,
    classes: int = 2,
    dropout: float = 0.5,
    word_dropout: float = 0.25,
) -> LstmClassifier:
    """Two layers of 96 units in each direction."""
    return LstmClassifier(vocabulary, width, units, layers, hidden, classes, dropout, word_dropout)


def transformer_classifier(
    vocabulary: int = 8000,
    length: int = 32,
    width: int = 64,
    heads: int = 8,
    neurons: int = 256,
    layers: int = 2,
    hidden: int = 64,
    classes: int = 2,
    dropout: float = 0.3,
    word_dropout: float = 0.25,
) -> TransformerClassifier:
    """Two layers of 8 heads and 256 neurons, 64 wide."""
    return TransformerClassifier(
        vocabulary, length, width, heads, neurons, layers, hidden, classes, dropout, word_dropout
    )
