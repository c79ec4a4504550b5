"""Encode, Converse and Decode over the models: `N` seats of a batch stepped in fixed shapes of `B`.

Each stage scatters the batch's rows into buffers of `B` rows that live as long as it does, steps all
of them under a mask, and gathers the batch's rows: the shapes a model sees never change.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from paluku.audio import from_pcm16, to_pcm16
from paluku.codec.port import Codec
from paluku.nn.state import reset_
from paluku.s2s.duplex import SeatConditions, duplex_step, init_duplex_state
from paluku.s2s.model import S2SModel
from paluku.s2s.prefill import only_seat, prefill, reach_frames
from paluku.streaming.ports import Batch, Conditions, History, Stage
from paluku.voices import STYLES, VOICES

NO_CODE = -1  # in every place of a reply row: there is no reply frame yet
# Two seconds: longer than any encoder here takes to settle.
SETTLED_FRAMES = 50

_DONE = object()


class Rows:
    """The seats of one stage: which are open, which a step is for, and what may be sent to them."""

    def __init__(self, num_seats: int, width: int, what: str) -> None:
        self.num_seats = num_seats
        self.mask = torch.zeros(num_seats, dtype=torch.bool)
        self._open: dict[int, int] = {}  # the visit that each open seat is at
        self._visits = 0
        self._width, self._what = width, what

    def open(self, seat: int) -> Tensor:
        """Note that the seat is in use; returns the mask that holds it alone.

        A seat that is open already is taken over: whoever opened it may have died without closing it.

        Raises:
            ValueError: when it does not exist.
        """
        if not 0 <= seat < self.num_seats:
            raise ValueError(f"seat {seat} does not exist; this stage has seats 0 to {self.num_seats - 1}")
        self._visits += 1
        self._open[seat] = self._visits
        return self.only(seat)

    def close(self, seat: int) -> Tensor:
        """Note that the seat is free; returns the mask that holds it alone.

        Raises:
            ValueError: when it is not open.
        """
        self.check_open(seat)
        del self._open[seat]
        return self.only(seat)

    def during_visit(self, seat: int, slices: Iterator[None]) -> Iterator[None]:
        """Go on with `slices` while the session that has the seat now still has it.

        Raises:
            ValueError: when nobody has it.
        """
        self.check_open(seat)
        visit = self._open[seat]

        def sliced() -> Iterator[None]:
            while self._open.get(seat) == visit and next(slices, _DONE) is not _DONE:
                yield

        return sliced()

    def only(self, seat: int) -> Tensor:
        """The mask `[B]` with one seat."""
        self.mask.zero_()
        self.mask[seat] = True
        return self.mask

    def take(self, batch: Batch) -> Tensor:
        """Check a batch and mask its seats; returns them as an index `[N]`.

        Raises:
            ValueError: when it has another shape or type, or a seat comes twice or is not open.
        """
        seats, payload = batch
        if seats.ndim != 1 or not np.issubdtype(seats.dtype, np.integer):
            raise ValueError(f"seats must be integers [N], not {seats.dtype} {list(seats.shape)}")
        if payload.dtype != np.int16 or payload.shape != (len(seats), self._width):
            raise ValueError(
                f"{self._what} must be int16 [{len(seats)}, {self._width}], "
                f"not {payload.dtype} {list(payload.shape)}"
            )
        listed = seats.tolist()
        for seat in listed:
            self.check_open(seat)
        if len(set(listed)) != len(listed):
            raise ValueError(f"a seat comes twice in {listed}; a batch holds one frame a seat")
        rows = torch.tensor(listed, dtype=torch.int64)
        self.mask.zero_()
        self.mask[rows] = True
        return rows

    def check_open(self, seat: int) -> None:
        """Raise ValueError unless a session has the seat."""
        if seat not in self._open:
            raise ValueError(f"seat {seat} is not open; open it before the first frame")


class EncodeStage:
    """PCM to the user's codes."""

    def __init__(self, codec: Codec, num_seats: int) -> None:
        samples = codec.frame_samples
        self._codec = codec
        self._rows = Rows(num_seats, samples, "PCM")
        self._state = codec.init_encode_state(num_seats)
        self._wave = torch.zeros(num_seats, 1, samples)

    @property
    def num_seats(self) -> int:
        """`B`."""
        return self._rows.num_seats

    @torch.inference_mode()
    def open(self, seat: int, conditions: Conditions) -> None:  # noqa: ARG002 (the port's; coding has no voice)
        """Make a seat fresh."""
        reset_(self._state, self._rows.open(seat))

    @property
    def reach_frames(self) -> int:
        """The codec's."""
        return self._codec.encode_reach_frames

    def adjust(self, seat: int, conditions: Conditions) -> None:  # noqa: ARG002 (coding has no voice)
        """Nothing depends on them."""
        self._rows.check_open(seat)

    def prime(self, seat: int, history: History) -> Iterator[None]:
        """Hear the last frames of the user's again, for this seat alone: exact with as many as it reaches."""
        last = _checked(history, self._codec.num_codebooks).user_pcm[-self.reach_frames :]
        return self._rows.during_visit(seat, _steps(self, seat, last))

    @torch.inference_mode()
    def step(self, batch: Batch) -> Batch:
        """PCM int16 `[N, S]` to codes int16 `[N, K]`; raises ValueError for a wrong batch."""
        rows = self._rows.take(batch)
        self._wave[rows, 0] = torch.from_numpy(from_pcm16(batch.payload))
        codes = self._codec.encode_step(self._state, self._wave, self._rows.mask)
        return Batch(batch.seats, codes[rows, :, 0].to(torch.int16).numpy())

    @torch.inference_mode()
    def close(self, seat: int) -> None:
        """Forget a session."""
        reset_(self._state, self._rows.close(seat))


class DecodeStage:
    """The reply's codes to PCM; a row of -1 is silence and leaves its seat as it was."""

    def __init__(self, codec: Codec, num_seats: int) -> None:
        self._codec = codec
        self._rows = Rows(num_seats, codec.num_codebooks, "codes")
        self._state = codec.init_decode_state(num_seats)
        self._codes = torch.zeros(num_seats, codec.num_codebooks, 1, dtype=torch.int64)

    @property
    def num_seats(self) -> int:
        """`B`."""
        return self._rows.num_seats

    @torch.inference_mode()
    def open(self, seat: int, conditions: Conditions) -> None:  # noqa: ARG002 (the port's; coding has no voice)
        """Make a seat fresh."""
        reset_(self._state, self._rows.open(seat))

    @property
    def reach_frames(self) -> int:
        """The codec's."""
        return self._codec.decode_reach_frames

    def adjust(self, seat: int, conditions: Conditions) -> None:  # noqa: ARG002 (coding has no voice)
        """Nothing depends on them."""
        self._rows.check_open(seat)

    def prime(self, seat: int, history: History) -> Iterator[None]:
        """Decode the last reply frames for this seat alone, unheard."""
        codes = _checked(history, self._codec.num_codebooks).reply[:, 1:]
        frames = codes[(codes != NO_CODE).any(axis=1)]
        return self._rows.during_visit(seat, _steps(self, seat, frames[-self.reach_frames :]))

    @torch.inference_mode()
    def step(self, batch: Batch) -> Batch:
        """Codes int16 `[N, K]` to PCM int16 `[N, S]`; raises ValueError for a wrong batch or code."""
        rows = self._rows.take(batch)
        codes = torch.from_numpy(batch.payload.astype(np.int64))
        present = (codes != NO_CODE).any(dim=1)
        check_codes(codes[present], self._codec.codebook_size)
        self._codes[rows, :, 0] = codes.clamp(min=0)
        self._rows.mask[rows] = present
        wave = self._codec.decode_step(self._state, self._codes, self._rows.mask)[rows, 0]
        wave.masked_fill_(~present[:, None], 0.0)
        return Batch(batch.seats, to_pcm16(wave.numpy()))

    @torch.inference_mode()
    def close(self, seat: int) -> None:
        """Forget a session."""
        reset_(self._state, self._rows.close(seat))


class ConverseStage:
    """The user's codes to a text token and the reply's codes."""

    def __init__(self, model: S2SModel, num_seats: int) -> None:
        self._model = model
        self._num_codebooks = model.config.num_codebooks
        self._codebook_size = model.config.codebook_size
        self._rows = Rows(num_seats, self._num_codebooks, "codes")
        self._state = init_duplex_state(model, num_seats)
        self._codes = torch.zeros(num_seats, self._num_codebooks, dtype=torch.int64)
        self._conditions = SeatConditions(
            voice=torch.zeros(num_seats, dtype=torch.int64),
            style=torch.zeros(num_seats, dtype=torch.int64),
            seed=torch.zeros(num_seats, dtype=torch.int64),
            temperature=torch.ones(num_seats),
            top_k=torch.ones(num_seats, dtype=torch.int64),
        )

    @property
    def num_seats(self) -> int:
        """`B`."""
        return self._rows.num_seats

    @torch.inference_mode()
    def open(self, seat: int, conditions: Conditions) -> None:
        """Make a seat fresh, with the session's voice, style and sampling."""
        reset_(self._state, self._rows.open(seat))
        self.adjust(seat, conditions)

    @property
    def reach_frames(self) -> int:
        """The model's."""
        return reach_frames(self._model)

    def adjust(self, seat: int, conditions: Conditions) -> None:
        """Another voice, style or sampling from the next frame on."""
        self._rows.check_open(seat)
        self._conditions.voice[seat] = VOICES.index(conditions.voice)
        self._conditions.style[seat] = STYLES.index(conditions.style)
        self._conditions.seed[seat] = conditions.seed
        self._conditions.temperature[seat] = conditions.temperature
        self._conditions.top_k[seat] = conditions.top_k

    def prime(self, seat: int, history: History) -> Iterator[None]:
        """One prefill of the replies as they were given (`s2s.prefill`)."""
        history = _checked(history, self._num_codebooks)
        user_codes = torch.from_numpy(history.user_codes.astype(np.int64))
        reply = torch.from_numpy(history.reply.astype(np.int64))
        check_codes(user_codes, self._codebook_size)
        check_codes(reply[:, 1:].clamp(min=0), self._codebook_size)
        state, conditions = only_seat(self._state, self._conditions, seat)
        slices = prefill(self._model, state, history.start, user_codes, reply, conditions)
        return self._rows.during_visit(seat, slices)

    @torch.inference_mode()
    def step(self, batch: Batch) -> Batch:
        """Codes int16 `[N, K]` to int16 `[N, 1 + K]`, text first; raises ValueError for a wrong batch."""
        rows = self._rows.take(batch)
        codes = torch.from_numpy(batch.payload.astype(np.int64))
        check_codes(codes, self._codebook_size)
        self._codes[rows] = codes
        reply = duplex_step(self._model, self._state, self._codes, self._conditions, self._rows.mask)
        return Batch(batch.seats, reply[rows].to(torch.int16).numpy())

    @torch.inference_mode()
    def close(self, seat: int) -> None:
        """Forget a session."""
        reset_(self._state, self._rows.close(seat))


def check_codes(codes: Tensor, codebook_size: int) -> None:
    """Raise ValueError unless every code of `[N, K]` lies in the codebook."""
    if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= codebook_size):
        raise ValueError(
            f"codes must lie in 0 to {codebook_size - 1}, not {int(codes.min())} to {int(codes.max())}"
        )


def silence_codes(codec: Codec) -> tuple[int, ...]:
    """`[K]`: what an encoder makes of a frame of silence after much silence."""
    samples = SETTLED_FRAMES * codec.frame_samples
    with torch.inference_mode():
        return tuple(codec.encode(torch.zeros(1, 1, samples))[0, :, -1].tolist())


def _steps(stage: Stage, seat: int, rows: np.ndarray) -> Iterator[None]:
    """One step of a seat alone for each row of its input, whose output nobody hears."""
    for row in rows:
        stage.step(Batch(np.array([seat], np.int32), row[None]))
        yield


def _checked(history: History, num_codebooks: int) -> History:
    """Raise ValueError unless the rows have their widths; an empty history may have any."""
    frames = len(history.reply)
    codes, reply = (frames, num_codebooks), (frames, 1 + num_codebooks)
    shapes = (history.user_codes.shape, history.reply.shape)
    if frames and shapes != (codes, reply):
        raise ValueError(f"history must have the shapes {(codes, reply)}, not {shapes}")
    return history._replace(user_codes=history.user_codes.reshape(codes), reply=history.reply.reshape(reply))
