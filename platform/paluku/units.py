"""Units stand in names: `_s _ms _hz _samples _frames _db`. This file holds the conversions."""

MS_PER_S = 1000.0

# 40 ms frames: with 80 ms frames the deviation of the reaction time alone would be 23 ms,
# above the 20 ms asked for (docs/architecture.md, "What is measured").
FRAME_RATE_HZ = 25
FRAME_MS = MS_PER_S / FRAME_RATE_HZ

# PCM16 full scale: symmetric, so that a decoded -1.0 does not wrap.
PCM16_SCALE = 32767.0


def frame_samples(sample_rate_hz: int, frame_rate_hz: int = FRAME_RATE_HZ) -> int:
    """Samples in one codec frame.

    Raises:
        ValueError: when a frame would not be a whole number of samples.
    """
    if sample_rate_hz % frame_rate_hz:
        raise ValueError(
            f"{sample_rate_hz} Hz has no whole number of samples in a frame of 1/{frame_rate_hz} s; "
            f"choose a rate divisible by {frame_rate_hz}"
        )
    return sample_rate_hz // frame_rate_hz
