"""How much of its codebooks a codec uses."""

import numpy as np
from jaxtyping import Int
from torch import Tensor


class CodebookUse:
    """Counts codes, by codebook."""

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        self._counts = np.zeros((num_codebooks, codebook_size), np.int64)

    def count(self, codes: Int[Tensor, "B K T"]) -> None:
        """Take these frames in."""
        rows = codes.transpose(0, 1).flatten(1).cpu().numpy()
        for counts, row in zip(self._counts, rows, strict=True):
            counts += np.bincount(row, minlength=len(counts))

    @property
    def frames(self) -> int:
        """How many were counted."""
        return int(self._counts[0].sum())

    def share_used(self) -> tuple[float, ...]:
        """Of each codebook, the share of entries that came at least once."""
        return tuple(float(share) for share in (self._counts > 0).mean(axis=1))

    def perplexity(self) -> tuple[float, ...]:
        """Of each codebook, the exponential of its codes' entropy: 1 to `V`."""
        shares = self._counts / max(self.frames, 1)
        logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
        return tuple(float(value) for value in np.exp(-(shares * logs).sum(axis=1)))
