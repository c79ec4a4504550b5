"""Residual vector quantisation with codebooks learned by exponential moving averages.

Each codebook codes what the ones before it left over (SoundStream, Zeghidour et al. 2021, algorithm
1). Codebooks follow the data by moving averages (VQ-VAE, van den Oord et al. 2017, appendix A.1), start
from k-means, and replace dead entries by data (SoundStream, section III-C).

Under data parallelism every statistic is summed, and every candidate gathered, over the workers in
rank order before it is used; choices are seeded by the number of updates: replicas stay identical, and
equal one worker that reads all the data.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import embedding, one_hot

from paluku.codec.beam import beam_codes
from paluku.config import Config
from paluku.shapes import Codes, Latent

# An entry whose moving count is below this stays where it is: dividing by it would blow rounding up.
COUNT_FLOOR = 1e-3


class QuantizerConfig(Config):
    """How the codebooks learn. Their number and size belong to the codec."""

    decay: float = 0.99
    kmeans_rounds: int = 10
    # An entry chosen less often than this share of its fair one is dead. Lower, codebooks stay half empty;
    # at 0.4 entries were replaced faster than they settled, and sound got worse.
    dead_share: float = 0.1
    revive_every: int = 10
    # How many unfinished codings `encode` keeps of each vector: 1 takes the nearest entry of each codebook in
    # turn, 4 leave a twelfth less over, for four times the arithmetic.
    beam: int = Field(default=1, ge=1)


class Quantized(NamedTuple):
    """What `forward` gives: the straight-through latents, and what the codebooks learn from."""

    latents: Latent
    first: Latent  # what the first codebook alone says, straight-through
    codes: Codes
    residuals: Float[Tensor, "K B T D"]  # what each codebook was asked to code; no gradient
    used: Bool[Tensor, "K B"]  # which examples used which codebook
    commitment: Float[Tensor, ""]


class ResidualQuantizer(nn.Module):
    """`K` codebooks of `V` entries of dimension `D`."""

    codebooks: Float[Tensor, "K V D"]
    sums: Float[Tensor, "K V D"]
    counts: Float[Tensor, "K V"]
    updates: Int[Tensor, ""]
    norms: Float[Tensor, "K V"]  # squared, of the entries: a stream would spend a fifth of its time on them

    def __init__(self, num_codebooks: int, size: int, dim: int, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codebooks", torch.randn(num_codebooks, size, dim))
        self.register_buffer("sums", self.codebooks.clone())
        self.register_buffer("counts", torch.ones(num_codebooks, size))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("norms", self.codebooks.square().sum(dim=2), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.measure_())

    def measure_(self) -> None:
        """Entries have moved: measure them anew, in place."""
        self.norms = self.codebooks.square().sum(dim=2)

    def keep_(self, num_codebooks: int) -> None:
        """Drop all codebooks but the first, in place."""
        self.codebooks = self.codebooks[:num_codebooks].clone()
        self.sums, self.counts = self.sums[:num_codebooks].clone(), self.counts[:num_codebooks].clone()
        self.measure_()

    def encode(self, latents: Latent, first: Int[Tensor, "B T"] | None = None) -> Codes:
        """`[B, D, T]` to `[B, K, T]`; `first` is the first codebook's where something else chooses it."""
        if self.config.beam > 1:
            return beam_codes(latents, self.codebooks, self.norms, self.config.beam, first)
        residual = latents.transpose(1, 2)
        codes = []
        for codebook, norms in zip(self.codebooks, self.norms, strict=True):
            given = first if not codes else None
            codes.append((norms - 2 * residual @ codebook.T).argmin(dim=-1) if given is None else given)
            residual = residual - embedding(codes[-1], codebook)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Codes) -> Latent:
        """`[B, k, T]` to `[B, D, T]`, with the first `k <= K` codebooks."""
        assert codes.shape[1] <= len(self.codebooks), (
            f"{codes.shape[1]} rows of codes, {len(self.codebooks)} codebooks"
        )
        entries = [embedding(row, book) for row, book in zip(codes.unbind(1), self.codebooks, strict=False)]
        return torch.stack(entries).sum(dim=0).transpose(1, 2)

    def forward(
        self, latents: Latent, num_codebooks: Int[Tensor, "B"], first: Int[Tensor, "B T"] | None = None
    ) -> Quantized:
        """Quantise for training: example `b` with its first `num_codebooks[b]` codebooks, entry by entry.

        Gradients pass straight through to `latents`; the commitment loss draws each residual to its
        entry. Nothing is learned here: see `learn_`.
        """
        residual = latents.transpose(1, 2)
        quantized, commitment = torch.zeros_like(residual), residual.new_zeros(())
        codes, residuals, used = [], [], []
        for index, codebook in enumerate(self.codebooks):
            used.append(num_codebooks > index)
            residuals.append(residual.detach())
            given = first if index == 0 else None
            codes.append(nearest(residuals[-1], codebook) if given is None else given)
            entry = embedding(codes[-1], codebook) * used[-1][:, None, None]
            commitment = commitment + ((residual - entry) * used[-1][:, None, None]).square().mean()
            quantized, residual = quantized + entry, residual - entry
        of_first = embedding(codes[0], self.codebooks[0]).transpose(1, 2)
        return Quantized(
            _straight_through(latents, quantized.transpose(1, 2)),
            _straight_through(latents, of_first),
            torch.stack(codes, dim=1),
            torch.stack(residuals),
            torch.stack(used),
            commitment / len(codes),
        )

    @torch.no_grad()
    def initialise_(self, *batches: Latent) -> None:
        """Set every codebook by k-means on these latents (of all workers together), in place."""
        # Batch by batch: the order is then that of one worker with all the data.
        vectors = [_gathered(batch.transpose(1, 2).reshape(-1, batch.shape[1])) for batch in batches]
        residual = torch.cat(vectors)
        K, V, _ = self.codebooks.shape
        for index in range(K):
            codebook, counts = kmeans(residual, V, self.config.kmeans_rounds, seed=index)
            self.codebooks[index], self.counts[index] = codebook, counts
            self.sums[index] = codebook * counts[:, None]
            residual = residual - embedding(nearest(residual, codebook), codebook)
        self.measure_()

    @torch.no_grad()
    def learn_(self, quantized: Quantized) -> None:
        """Move the codebooks towards the residuals (of all workers together) that chose them, in place."""
        counts, sums = self._assigned(quantized)
        _sum_over_workers(counts, sums)
        self.counts.lerp_(counts, 1 - self.config.decay)
        self.sums.lerp_(sums, 1 - self.config.decay)
        lives = (self.counts > COUNT_FLOOR)[..., None]
        self.codebooks.copy_(torch.where(lives, self.sums / self.counts[..., None], self.codebooks))
        self.updates += 1
        if int(self.updates) % self.config.revive_every == 0:
            self._revive_(_gathered(quantized.residuals, dim=1), _gathered(quantized.used, dim=1))
        self.measure_()

    def _assigned(self, quantized: Quantized) -> tuple[Float[Tensor, "K V"], Float[Tensor, "K V D"]]:
        """How many vectors chose each entry in this batch, and their sum."""
        counts, sums = torch.zeros_like(self.counts), torch.zeros_like(self.sums)
        for index, used in enumerate(quantized.used):
            chosen = quantized.codes[used, index].flatten()
            vectors = quantized.residuals[index][used].flatten(0, 1)
            counts[index].index_add_(0, chosen, counts.new_ones(len(chosen)))
            sums[index].index_add_(0, chosen, vectors)
        return counts, sums

    def _revive_(self, residuals: Float[Tensor, "K B T D"], used: Bool[Tensor, "K B"]) -> None:
        """Give dead entries the place of a random residual each, and half a fair share of weight."""
        generator = torch.Generator().manual_seed(int(self.updates))
        for index, counts in enumerate(self.counts):
            candidates = residuals[index][used[index]].flatten(0, 1)
            fair = counts.mean()
            dead = (counts < self.config.dead_share * fair).nonzero().flatten()
            chosen = torch.randperm(len(candidates), generator=generator)[: len(dead)]
            dead = dead[: len(chosen)]
            self.codebooks[index, dead] = candidates[chosen.to(candidates.device)]
            self.counts[index, dead] = fair / 2
            self.sums[index, dead] = self.codebooks[index, dead] * fair / 2


def _straight_through(latents: Latent, quantized: Latent) -> Latent:
    """The quantised values with the latents' gradient."""
    return latents + (quantized - latents).detach()


def nearest(vectors: Float[Tensor, "... D"], codebook: Float[Tensor, "V D"]) -> Int[Tensor, "..."]:
    """Index of the entry with the smallest Euclidean distance; the lowest index among equals."""
    return (codebook.square().sum(dim=1) - 2 * vectors @ codebook.T).argmin(dim=-1)


def kmeans(
    vectors: Float[Tensor, "N D"], size: int, rounds: int, seed: int
) -> tuple[Float[Tensor, "V D"], Float[Tensor, "V"]]:
    """Lloyd's algorithm from `size` random vectors: centres, and how many vectors each holds.

    A centre that holds none stays where it is. With fewer vectors than centres some start equal.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(vectors), generator=generator).repeat(-(-size // len(vectors)))
    centres = vectors[order[:size].to(vectors.device)]
    for _ in range(rounds):
        counts, sums = _cluster(vectors, centres)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    return centres, _cluster(vectors, centres)[0]


def _cluster(
    vectors: Float[Tensor, "N D"], centres: Float[Tensor, "V D"]
) -> tuple[Float[Tensor, "V"], Float[Tensor, "V D"]]:
    chosen = nearest(vectors, centres)
    counts = centres.new_zeros(len(centres)).index_add_(0, chosen, centres.new_ones(len(chosen)))
    return counts, torch.zeros_like(centres).index_add_(0, chosen, vectors)


def histogram(codes: Codes, size: int) -> Int[Tensor, "K V"]:
    """How often each codebook's entries occur."""
    return one_hot(codes, size).sum(dim=(0, 2))


def perplexity(counts: Float[Tensor, "K V"] | Int[Tensor, "K V"]) -> Float[Tensor, "K"]:
    """Exponential of the entropy of each codebook's use: `V` when all entries are used alike."""
    share = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.special.entr(share).sum(dim=1).exp()


def share_used(counts: Float[Tensor, "K V"] | Int[Tensor, "K V"]) -> Float[Tensor, "K"]:
    """Share of each codebook's entries that occur at all."""
    return (counts > 0).float().mean(dim=1)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _sum_over_workers(*values: Tensor) -> None:
    if _several():
        for value in values:
            dist.all_reduce(value)


def _gathered(value: Tensor, dim: int = 0) -> Tensor:
    """Every worker's `value`, of one shape, in rank order along `dim`."""
    if not _several():
        return value
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, value.contiguous())
    return torch.cat(parts, dim=dim)
