"""One stage in a Serve replica. Only here is a model loaded; torch is imported only inside."""

from typing import Any, Literal

import numpy as np

from paluku.config import AbsolutePath, Config
from paluku.errors import CheckpointError
from paluku.serving.ports import SeatTakenError, StageCard
from paluku.streaming.ports import Batch, Conditions, Stage
from paluku.units import frame_samples

StageName = Literal["encode", "converse", "decode"]


class ReplicaConfig(Config):
    """Where the model is, and how much of a machine it gets."""

    bundle: str  # a bundle's folder, models:/NAME@ALIAS or models:/NAME/VERSION
    tracking_uri: str
    cache: AbsolutePath  # where bundles from the registry are kept
    num_seats: int
    torch_threads: int


class StageReplica:
    """A deployment around the stage port. Every call runs to its end before the next begins.

    The calls are `async` and never await, so that Serve runs them on its event loop in the order of
    their arrival: a step's compute blocks the loop, and nothing else of this process has work then.
    """

    def __init__(self, name: StageName, config: ReplicaConfig) -> None:
        import torch

        torch.set_num_threads(config.torch_threads)
        self._stage, self._card, width = _load(name, config)
        self._owners: dict[int, str] = {}
        _warm_up(self._stage, width)

    async def card(self) -> dict[str, Any]:
        """`StageCard`, as plain values."""
        return self._card.model_dump()

    async def open(self, owner: str, seat: int, conditions: dict[str, Any]) -> None:
        """Make a seat fresh for a new session of `owner`, an ingress process. The last to open has it.

        While an ingress is redeployed, the old one and the new one both hold sessions, and neither
        knows of the other's: the new one must get its seat, and the old one's session must hear nothing.
        """
        self._stage.open(seat, Conditions(**conditions))
        self._owners[seat] = owner

    async def step(self, owner: str, seats: np.ndarray, payload: np.ndarray) -> np.ndarray:
        """One frame in, one frame out for each seat of the batch.

        Raises:
            SeatTakenError: when one of them belongs to another ingress by now; none is stepped.
        """
        if taken := [seat for seat in seats.tolist() if self._owners.get(seat, owner) != owner]:
            raise SeatTakenError(f"seats {taken} were taken over by another ingress; connect again")
        return self._stage.step(Batch(seats, payload)).payload

    async def close(self, owner: str, seat: int) -> None:
        """End a session; nothing happens when the seat is another ingress's by now."""
        if self._owners.get(seat, owner) != owner:
            return
        self._stage.close(seat)
        self._owners.pop(seat, None)


def _load(name: StageName, config: ReplicaConfig) -> tuple[Stage, StageCard, int]:
    """The stage, what it says of itself, and how many numbers a row of its input has.

    Raises:
        CheckpointError: when the bundle is missing or damaged, or its parts do not fit.
        ServiceError: when the registry is not there.
    """
    from paluku.registry.bundle import load_codec, load_s2s, load_tokenizer, read_bundle
    from paluku.registry.store import fetch
    from paluku.streaming.stages import ConverseStage, DecodeStage, EncodeStage

    folder = fetch(config.bundle, config.tracking_uri, config.cache)
    codec, tokenizer = load_codec(folder), load_tokenizer(folder)
    card = StageCard(
        stage=name,
        bundle=read_bundle(folder).digest(),
        num_seats=config.num_seats,
        sample_rate_hz=codec.sample_rate_hz,
        frame_samples=frame_samples(codec.sample_rate_hz, codec.frame_rate_hz),
        tokenizer=tokenizer.to_json(),
    )
    match name:
        case "encode":
            return EncodeStage(codec, config.num_seats), card, card.frame_samples
        case "decode":
            return DecodeStage(codec, config.num_seats), card, codec.num_codebooks
        case "converse":
            model = load_s2s(folder)
            speaks = (model.config.num_codebooks, model.config.codebook_size, model.config.text_vocab)
            heard = (codec.num_codebooks, codec.codebook_size, tokenizer.vocab_size)
            if speaks != heard:
                raise CheckpointError(
                    f"{folder}: the S2S model has (K, V, text) {speaks}, codec and tokenizer have {heard}; "
                    "train it on this codec's tokens"
                )
            card = card.model_copy(update={"acoustic_delay_frames": model.config.acoustic_delay})
            return ConverseStage(model, config.num_seats), card, codec.num_codebooks


def _warm_up(stage: Stage, width: int) -> None:
    """One step before the first session: the first pays for allocations and lazy imports."""
    stage.open(0, Conditions())
    stage.step(Batch(np.zeros(1, np.int32), np.zeros((1, width), np.int16)))
    stage.close(0)
