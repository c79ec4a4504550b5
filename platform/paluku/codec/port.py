"""What a codec is to the rest of Paluku. Law: streaming equals offline for any chunking."""

from typing import Protocol, runtime_checkable

from paluku.nn.state import State
from paluku.shapes import Codes, Mask, MonoWave


@runtime_checkable
class Codec(Protocol):
    """Waves in, codes out, and back; offline, and streaming over `B` seats with explicit state."""

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waves it takes and gives."""
        ...

    @property
    def frame_rate_hz(self) -> int:
        """Codec frames per second."""
        ...

    @property
    def num_codebooks(self) -> int:
        """`K`."""
        ...

    @property
    def codebook_size(self) -> int:
        """`V`; codes lie in `[0, V)`."""
        ...

    @property
    def encode_reach_frames(self) -> int:
        """After how many frames an encoder's state has forgotten what came before them."""
        ...

    @property
    def decode_reach_frames(self) -> int:
        """After how many frames a decoder's state has forgotten what came before them."""
        ...

    def encode(self, wave: MonoWave) -> Codes:
        """`[B, 1, S]` to `[B, K, T]` with `T = S / samples per frame`; `S` must be whole frames."""
        ...

    def decode(self, codes: Codes) -> MonoWave:
        """`[B, K, T]` to `[B, 1, S]`; fewer than `K` codebooks are allowed and give lower quality."""
        ...

    def init_encode_state(self, batch: int) -> State:
        """Fresh (zero) encoder state for `batch` seats."""
        ...

    def init_decode_state(self, batch: int) -> State:
        """Fresh (zero) decoder state for `batch` seats."""
        ...

    def encode_step(self, state: State, wave: MonoWave, exec_mask: Mask) -> Codes:
        """The next whole frames of each seat; state is updated in place where `exec_mask`.

        Rows outside `exec_mask` give codes without meaning.
        """
        ...

    def decode_step(self, state: State, codes: Codes, exec_mask: Mask) -> MonoWave:
        """The inverse of `encode_step`, with the same rules."""
        ...
