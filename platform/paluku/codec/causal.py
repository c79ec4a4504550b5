"""What causal codecs have in common: sizes from their settings, and neither delay nor lookahead."""

import copy
from typing import Any, TypeVar

from torch import nn

from paluku.codec.quantizer import ResidualQuantizer

# No `Self`: beartype, which checks shapes in tests, refuses it in methods.
Shallow = TypeVar("Shallow", bound="ShallowCodec")


class CausalCodec(nn.Module):
    """The sizes of `codec.port.Codec`, read from `config`."""

    config: Any  # each codec's own settings; all of them name their sizes alike

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waves."""
        return self.config.sample_rate_hz

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        return self.config.frame_samples

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sample_rate_hz / self.frame_samples

    @property
    def num_codebooks(self) -> int:
        """`K`."""
        return self.config.num_codebooks

    @property
    def codebook_size(self) -> int:
        """`V`."""
        return self.config.codebook_size

    @property
    def delay_samples(self) -> int:
        """0: the decoded wave is aligned with the original."""
        return 0

    @property
    def encode_lookahead_frames(self) -> int:
        """0: causal."""
        return 0

    @property
    def decode_lookahead_frames(self) -> int:
        """0: causal."""
        return 0


class ShallowCodec(CausalCodec):
    """One that can do with its first codebooks alone."""

    quantizer: ResidualQuantizer

    def first(self: Shallow, num_codebooks: int) -> Shallow:
        """The same codec with its first codebooks alone: fewer bits.

        Without a beam the codes in those left are the same; with one they are those that are best without the
        others.
        """
        assert 1 <= num_codebooks <= self.num_codebooks, f"{num_codebooks} of {self.num_codebooks} codebooks"
        fewer = copy.deepcopy(self)
        fewer.config = self.config.model_copy(update={"num_codebooks": num_codebooks})
        fewer.quantizer.keep_(num_codebooks)
        return fewer
