"""Between a client's sound and the model's: encoding and sample rate, as a stream in each direction."""

import numpy as np

from paluku.protocol.messages import Encoding, ViolationError
from paluku.protocol.opus import ENCODER_RATE_HZ, OPUS_DELAY_MS, OPUS_FRAME_MS
from paluku.protocol.resampling import Resampler
from paluku.protocol.sound import sound_decoder, sound_encoder
from paluku.units import MS_PER_S


class Transcoder:
    """One connection's. Sound is neither lost nor added: a frame of one side is a frame of the other."""

    def __init__(self, encoding: Encoding, client_rate_hz: int, model_rate_hz: int) -> None:
        self._rates_hz = client_rate_hz, model_rate_hz
        self._encoding = encoding
        self._decoder = sound_decoder(encoding, client_rate_hz)
        encoded_hz = ENCODER_RATE_HZ if encoding == "opus" else client_rate_hz
        self._encoder = sound_encoder(encoding, encoded_hz)
        self._up = Resampler(client_rate_hz, model_rate_hz)
        self._down = Resampler(model_rate_hz, encoded_hz)

    @property
    def delay_ms(self) -> float:
        """How much later sound comes out than it went in, in each direction."""
        return self._up.delay_ms + (OPUS_DELAY_MS if self._encoding == "opus" else 0.0)

    @property
    def keeps_state(self) -> bool:
        """Whether what comes out depends on sound before it: when resumed, it first has to hear a frame."""
        return self._encoding == "opus" or self._rates_hz[0] != self._rates_hz[1]

    def frame_samples(self, model_frame_samples: int) -> int:
        """How many samples of the client's are one frame of the model's.

        Raises:
            ViolationError: when that is no whole number, or no Opus frame (`wrong_rate`).
        """
        client_hz, model_hz = self._rates_hz
        samples, rest = divmod(model_frame_samples * client_hz, model_hz)
        frame_ms = model_frame_samples / model_hz * MS_PER_S
        if rest or (self._encoding == "opus" and frame_ms != OPUS_FRAME_MS):
            raise ViolationError(
                "wrong_rate",
                f"the model's frames of {frame_ms:g} ms cannot be {self._encoding} at {client_hz} Hz; "
                f"use pcm16 at {model_hz} Hz",
            )
        return samples

    def incoming(self, sound: bytes) -> bytes:
        """A message of the client's to PCM16 at the model's rate.

        Raises:
            ViolationError: when it holds no sound of this encoding (`odd_bytes`, `bad_sound`).
        """
        return self._up.push(self._decoder.decode(sound)).astype("<i2", copy=False).tobytes()

    def outgoing(self, pcm: np.ndarray) -> bytes:
        """A frame of the model's, int16 `[S]`, to a message's sound."""
        return self._encoder.encode(self._down.push(pcm))
