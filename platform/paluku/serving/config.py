"""The limits of a serving process."""

from pydantic import Field

from paluku.config import Config


class ServingConfig(Config):
    """Every queue has a bound and every wait an end; these are they."""

    # Sound a client may be ahead of the tick: 2 s, what a short network stall delivers at once.
    max_waiting_frames: int = Field(default=50, ge=1)
    # Messages that may wait for a slow reader: about 2.5 s of sound.
    max_waiting_messages: int = Field(default=64, ge=1)
    # Batches of one lane that may be in its three stages at once: one each, and one that waits.
    max_in_flight: int = Field(default=4, ge=1)
    # A step that takes longer is lost. Shorter than the sound that may wait, or else the clients would
    # be told that they are too fast.
    step_timeout_s: float = Field(default=1.0, gt=0)
    open_timeout_s: float = Field(default=5.0, gt=0)
    hello_timeout_s: float = Field(default=10.0, gt=0)
    idle_timeout_s: float = Field(default=30.0, gt=0)
    close_timeout_s: float = Field(default=2.0, gt=0)
    retry_s: float = Field(default=5.0, gt=0)
