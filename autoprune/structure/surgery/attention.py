"""`nn.MultiheadAttention` with fewer heads than its width would have.

torch's own computes the size of a head as width / heads, so it cannot lose a head and keep its width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CutMultiheadAttention(nn.MultiheadAttention):
    """Same parameters, arguments and results; ``head_dim`` is a size of its own.

    Shapes: E width, H heads, d size of a head; ``in_proj_weight`` is (3 × H × d, E), ``out_proj.weight`` (E, H × d).
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`."""
        batched = query.ndim == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self._projected(query, key, value)
        mask = self._mask(attn_mask, key_padding_mask, q)
        if need_weights:
            scores = q @ k.transpose(-2, -1) / self.head_dim**0.5
            weights = torch.softmax(scores if mask is None else scores + mask, -1)
            mixed = functional.dropout(weights, self.dropout, self.training) @ v
        else:
            rate = self.dropout if self.training else 0.0
            mixed = functional.scaled_dot_product_attention(q, k, v, mask, rate, is_causal and mask is None)
        result = self.out_proj(mixed.transpose(1, 2).flatten(2))
        told = (weights.mean(1) if average_attn_weights else weights) if need_weights else None
        if not batched:
            return result.squeeze(0), None if told is None else told.squeeze(0)
        return result if self.batch_first else result.transpose(0, 1), told

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [
            functional.linear(x, weight, bias).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)  # type: ignore[no-untyped-call]
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        ]

    def _mask(self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, like: Tensor) -> Tensor | None:
        mask: Tensor | None = None
        if attn_mask is not None:
            mask = _additive(attn_mask, like)
            if mask.ndim == 3:
                mask = mask.reshape(len(like), -1, *mask.shape[1:])
                if mask.shape[1] != self.num_heads:
                    raise ValueError("a mask for every head does not fit a model that lost heads")
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, like)[:, None, None]
            mask = padding if mask is None else mask + padding
        return mask


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, float("-inf"))
    return mask.to(like.dtype)
