"""Encode, Converse and Decode over the models: `N` seats of a batch stepped in fixed shapes of `B`.

Each stage scatters the batch's rows into buffers of `B` rows that live as long as it does, steps all
of them under a mask, and gathers the batch's rows: the shapes a model sees never change. The buffers
lie where the model does. Steps of seats that nobody has are harmless: their mask is off.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from paluku.audio import from_pcm16, to_pcm16
from paluku.codec.port import Codec
from paluku.nn.state import leaves, reset_
from paluku.s2s.conditioning import ConditionRows
from paluku.s2s.duplex import SeatConditions, duplex_step, init_duplex_state
from paluku.s2s.model import S2SModel
from paluku.s2s.prefill import only_seat, prefill, reach_frames
from paluku.streaming.graphs import accelerated
from paluku.streaming.ports import FIRST_CODE, Batch, Conditions, History, Stage
from paluku.voices import STYLES, VOICES

NO_CODE = -1  # in every place of a reply row: there is no reply frame yet
# Two seconds: longer than any encoder here takes to settle.
SETTLED_FRAMES = 50

_DONE = object()


class Rows:
    """The seats of one stage: which are open, which a step is for, and what may be sent to them."""

    def __init__(self, num_seats: int, width: int, what: str, device: torch.device) -> None:
        self.num_seats = num_seats
        self.mask = torch.zeros(num_seats, dtype=torch.bool, device=device)
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
        rows = torch.tensor(listed, dtype=torch.int64, device=self.mask.device)
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
        self._state = codec.init_encode_state(num_seats)
        self._device = next(leaves(self._state)).device
        self._rows = Rows(num_seats, samples, "PCM", self._device)
        self._wave = torch.zeros(num_seats, 1, samples, device=self._device)

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
        self._wave[rows, 0] = torch.from_numpy(from_pcm16(batch.payload)).to(self._device)
        codes = self._codec.encode_step(self._state, self._wave, self._rows.mask)
        return Batch(batch.seats, codes[rows, :, 0].to(torch.int16).cpu().numpy())

    @torch.inference_mode()
    def close(self, seat: int) -> None:
        """Forget a session."""
        reset_(self._state, self._rows.close(seat))


class DecodeStage:
    """The reply's codes to PCM; a row of -1 is silence and leaves its seat as it was."""

    def __init__(self, codec: Codec, num_seats: int) -> None:
        self._codec = codec
        self._state = codec.init_decode_state(num_seats)
        self._device = next(leaves(self._state)).device
        self._rows = Rows(num_seats, codec.num_codebooks, "codes", self._device)
        self._codes = torch.zeros(num_seats, codec.num_codebooks, 1, dtype=torch.int64, device=self._device)

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
        codes = _checked(history, self._codec.num_codebooks).reply[:, FIRST_CODE:]
        frames = codes[(codes != NO_CODE).any(axis=1)]
        return self._rows.during_visit(seat, _steps(self, seat, frames[-self.reach_frames :]))

    @torch.inference_mode()
    def step(self, batch: Batch) -> Batch:
        """Codes int16 `[N, K]` to PCM int16 `[N, S]`; raises ValueError for a wrong batch or code."""
        rows = self._rows.take(batch)
        codes = torch.from_numpy(batch.payload.astype(np.int64))
        present = (codes != NO_CODE).any(dim=1)
        check_codes(codes[present], self._codec.codebook_size)
        self._codes[rows, :, 0] = codes.clamp(min=0).to(self._device)
        self._rows.mask[rows] = present.to(self._device)
        wave = self._codec.decode_step(self._state, self._codes, self._rows.mask)[rows, 0].cpu()
        wave.masked_fill_(~present[:, None], 0.0)
        return Batch(batch.seats, to_pcm16(wave.numpy()))

    @torch.inference_mode()
    def close(self, seat: int) -> None:
        """Forget a session."""
        reset_(self._state, self._rows.close(seat))


class ConverseStage:
    """The user's codes to both text tokens and the reply's codes.

    `guided` seats may ask for more (or less) guidance than 1, and all of them cost twice as much.
    `compiled`: see `streaming.graphs`.
    """

    def __init__(
        self, model: S2SModel, num_seats: int, *, guided: bool = False, compiled: bool = False
    ) -> None:
        config, device = model.config, model.text_head.weight.device
        self._model, self._device = model, device
        self._num_codebooks, self._codebook_size = config.num_codebooks, config.codebook_size
        self._rows = Rows(num_seats, self._num_codebooks, "codes", device)
        self._state = init_duplex_state(model, num_seats, guided=guided)
        self._codes = torch.zeros(num_seats, self._num_codebooks, dtype=torch.int64, device=device)
        self._conditions = _no_conditions(model, num_seats)
        fixed = self._state, self._codes, self._conditions, self._rows.mask
        self._step = accelerated(model, duplex_step, *fixed, compiled=compiled)

    @property
    def num_seats(self) -> int:
        """`B`."""
        return self._rows.num_seats

    @torch.inference_mode()
    def open(self, seat: int, conditions: Conditions) -> None:
        """Make a seat fresh, with the session's voice, style and sampling; raises ValueError as `adjust`."""
        self._check(conditions)
        reset_(self._state, self._rows.open(seat))
        self.adjust(seat, conditions)

    @property
    def reach_frames(self) -> int:
        """The model's."""
        return reach_frames(self._model)

    @torch.inference_mode()
    def adjust(self, seat: int, conditions: Conditions) -> None:
        """Another voice, style or sampling from the next frame on.

        Raises:
            ValueError: when the speaker's vector has another size, or guidance is asked of a stage that
                is not guided.
        """
        self._rows.check_open(seat)
        self._check(conditions)
        asked, voices = self._conditions, self._model.conditioning.voices
        voice = voices[VOICES.index(conditions.voice)]
        told = conditions.speaker
        asked.rows.speaker[seat] = voice if told is None else torch.tensor(told, dtype=voice.dtype)
        asked.rows.style[seat] = STYLES.index(conditions.style)
        for name in ("seed", "temperature", "top_k", "text_temperature", "text_top_k", "guidance"):
            getattr(asked, name)[seat] = getattr(conditions, name)

    def _check(self, conditions: Conditions) -> None:
        """Raise ValueError for what the model cannot do."""
        if conditions.guidance != 1 and not self._state.unconditioned:
            raise ValueError(
                f"guidance {conditions.guidance:g} was asked for; open the stage guided, or ask for 1"
            )
        size = self._model.config.speaker_dim
        if conditions.speaker is not None and len(conditions.speaker) != size:
            raise ValueError(f"a speaker's vector has {size} numbers, not {len(conditions.speaker)}")

    def prime(self, seat: int, history: History) -> Iterator[None]:
        """One prefill of the replies as they were given (`s2s.prefill`)."""
        history = _checked(history, self._num_codebooks)
        user_codes = torch.from_numpy(history.user_codes.astype(np.int64))
        reply = torch.from_numpy(history.reply.astype(np.int64))
        check_codes(user_codes, self._codebook_size)
        check_codes(reply[:, FIRST_CODE:].clamp(min=0), self._codebook_size)
        state, conditions = only_seat(self._state, self._conditions, seat)
        known = user_codes.to(self._device), reply.to(self._device)
        return self._rows.during_visit(seat, prefill(self._model, state, history.start, *known, conditions))

    @torch.no_grad()
    def step(self, batch: Batch) -> Batch:
        """Codes int16 `[N, K]` to int16 `[N, 2 + K]`, text first; raises ValueError for a wrong batch."""
        rows = self._rows.take(batch)
        codes = torch.from_numpy(batch.payload.astype(np.int64))
        check_codes(codes, self._codebook_size)
        self._codes[rows] = codes.to(self._device)
        return Batch(batch.seats, self._step()[rows].to(torch.int16).cpu().numpy())

    @torch.inference_mode()
    def close(self, seat: int) -> None:
        """Forget a session."""
        reset_(self._state, self._rows.close(seat))


def _no_conditions(model: S2SModel, num_seats: int) -> SeatConditions:
    """Room for what the seats' sessions ask."""
    device = model.text_head.weight.device

    def numbers() -> Tensor:
        return torch.zeros(num_seats, dtype=torch.int64, device=device)

    def ones() -> Tensor:
        return torch.ones(num_seats, device=device)

    speaker = torch.zeros_like(model.conditioning.voices[:1]).repeat(num_seats, 1)
    rows = ConditionRows(speaker, numbers(), ones().bool(), ones().bool())
    return SeatConditions(rows, numbers(), ones(), numbers(), ones(), numbers(), ones())


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
    codes, reply = (frames, num_codebooks), (frames, FIRST_CODE + num_codebooks)
    shapes = (history.user_codes.shape, history.reply.shape)
    if frames and shapes != (codes, reply):
        raise ValueError(f"history must have the shapes {(codes, reply)}, not {shapes}")
    return history._replace(user_codes=history.user_codes.reshape(codes), reply=history.reply.reshape(reply))
