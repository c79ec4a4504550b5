"""Residual codes found by beam search, and codebooks refitted to them.

Taking the nearest entry of each codebook in turn is greedy: an entry that is not nearest may leave a rest
that the next codebooks code better. Entries of one codebook are also fitted with no regard to the later
ones. Both are known of additive quantisation (Babenko and Lempitsky 2014, sections 3.2 and 3.3); here every
prefix of the codebooks has to serve by itself.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paluku.shapes import Codes, Latent

FIT_BLOCK = 20_000


def beam_codes(
    latents: Latent,
    codebooks: Float[Tensor, "K V D"],
    norms: Float[Tensor, "K V"],
    beam: int,
    first: Int[Tensor, "B T"] | None = None,
) -> Codes:
    """`[B, D, T]` to `[B, K, T]`: the best coding of each vector among those that a beam keeps.

    `norms` are the entries' squared lengths; `first` are the first codebook's codes where they are given.
    """
    B, D, T = latents.shape
    (K, V, _), vectors = codebooks.shape, latents.transpose(1, 2).reshape(B * T, D)
    codes = torch.empty(B * T, 1, 0, dtype=torch.int64, device=latents.device)
    rest, begin = vectors[:, None], 0
    if first is not None:
        codes = first.reshape(B * T, 1, 1)
        rest, begin = rest - codebooks[0][codes[..., 0]], 1
    left = rest.square().sum(dim=2)
    for k in range(begin, K):
        scores = left[..., None] + norms[k] - 2 * rest @ codebooks[k].T
        left, place = scores.flatten(1).topk(min(beam, scores[0].numel()), dim=1, largest=False)
        parent, entry = place // V, place % V
        rest = rest.gather(1, parent[..., None].expand(-1, -1, D)) - codebooks[k][entry]
        kept = codes.gather(1, parent[..., None].expand(-1, -1, codes.shape[2]))
        codes = torch.cat((kept, entry[..., None]), dim=2)
    return codes[:, 0].unflatten(0, (B, T)).transpose(1, 2)  # topk sorts: the first is the best


def refitted(
    codebooks: Float[Tensor, "K V D"],
    vectors: Float[Tensor, "N D"],
    codes: Int[Tensor, "N K"],
    depths: Mapping[int, float],
    ridge: float,
) -> Float[Tensor, "K V D"]:
    """The codebooks whose sums, for these codes, come nearest to the vectors at all `depths` together.

    `depths` maps numbers of codebooks to what their squared errors count. A linear least squares problem:
    `ridge` counts, in vectors, how strongly an entry holds to where it was.
    """
    K, V, D = codebooks.shape
    exact = {"dtype": torch.float64, "device": codebooks.device}
    together, sums = torch.zeros(K * V, K * V, **exact), torch.zeros(K * V, D, **exact)
    columns = codes + torch.arange(K, device=codes.device) * V
    for columns_block, block in zip(columns.split(FIT_BLOCK), vectors.split(FIT_BLOCK), strict=True):
        chosen = block.new_zeros(len(block), K * V).scatter_(1, columns_block, 1.0)
        together += (chosen.T @ chosen).double()
        sums += (chosen.T @ block).double()
    left, right = torch.zeros_like(together), torch.zeros_like(sums)
    for depth, weight in depths.items():
        n = depth * V
        left[:n, :n] += weight * together[:n, :n]
        right[:n] += weight * sums[:n]
    left += ridge * torch.eye(K * V, **exact)
    right += ridge * codebooks.flatten(0, 1)
    return torch.linalg.solve(left, right).unflatten(0, (K, V)).to(codebooks.dtype)
