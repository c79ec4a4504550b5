"""Embeddings of several streams of tokens at once."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class SummedEmbedding(nn.Module):
    """One table for several streams of tokens; gives the sum of one row from each."""

    offsets: Int[Tensor, "N"]

    def __init__(self, sizes: list[int], dim: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.table = nn.Parameter(torch.empty(sum(sizes), dim))
        self.register_buffer("offsets", torch.tensor([0, *sizes]).cumsum(0)[:-1], persistent=False)

    def forward(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B D"]:
        """Stream `n`'s token lies in `[0, sizes[n])`."""
        return F.embedding_bag(tokens + self.offsets, self.table, mode="sum")
