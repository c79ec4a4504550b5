"""A seat brought to where a session was, from the frames it lived through: one prefill, in slices.

The replies are taken as they were given, whatever this model would say. Row `t` of a session holds our
text token, the user's, and the acoustic codes decided at position `t`, and codebook 0 of `acoustic_delay`
positions earlier. So the codebook 0 of the last `acoustic_delay` positions was not heard by anyone yet: it
is drawn again there, by the hash of the seat's seed and position, which gives the same model the same.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from paluku.nn.state import State
from paluku.s2s.duplex import DuplexState, SeatConditions, advance, sampler, shift_
from paluku.s2s.model import S2SModel

# At the demo's size 4 to 5 ms on one core; other seats wait for so long, once per slice.
SLICE_FRAMES = 64


def reach_frames(model: S2SModel) -> int:
    """How many frames determine the state.

    The temporal transformer's reach, the position before it (our own tokens enter one position later),
    those whose codebook 0 is drawn from a state as old, those whose codes are heard late, and those that
    what is heard of the oldest depends on.
    """
    user_delay = model.config.user_delay
    heard_late = 0 if user_delay is None else 1 + user_delay
    past = 0 if model.config.hearing is None else model.config.hearing.past
    return model.temporal.reach + 1 + model.config.acoustic_delay + heard_late + past


def only_seat(
    state: DuplexState, conditions: SeatConditions, seat: int
) -> tuple[DuplexState, SeatConditions]:
    """One seat of a table as views: what is changed there in place is changed in the table."""
    here = slice(seat, seat + 1)
    return _rows(state, here), _rows(conditions, here)


def _rows(tree: State, here: slice) -> State:
    """The tree over some of its rows, as views."""
    if isinstance(tree, Tensor):
        return tree[here]
    children = [_rows(child, here) for child in tree]
    return type(tree)(*children) if hasattr(tree, "_fields") else tuple(children)


def prefill(
    model: S2SModel,
    state: DuplexState,
    start: int,
    user_codes: Int[Tensor, "F K"],
    reply: Int[Tensor, "F M"],
    conditions: SeatConditions,
) -> Iterator[None]:
    """Live through frames `start` on, whose replies `[F, 2 + K]` are known; yields after each slice.

    `state` and `conditions` hold one fresh seat (`only_seat`); the state is changed in place. What lies
    before `start` is as if it had not been. The conditions are taken to have been the same all along.
    """
    # Frames of older positions than this reach nothing that is to come.
    skipped = max(0, len(reply) - reach_frames(model))
    start, user_codes, reply = start + skipped, user_codes[skipped:], reply[skipped:]
    for temporal in (state.temporal, *state.unconditioned):
        temporal.start.fill_(start)
        temporal.position.fill_(start)
    tokens = own_tokens(model, reply)
    known = max(0, len(tokens) - model.config.acoustic_delay)
    told = reply[:, 1]
    yield from _remember(model, state, user_codes[:known], tokens[:known], told[:known], conditions)
    for index in range(known, len(tokens)):
        _relive(model, state, user_codes[index], tokens[index], told[index], conditions)
        yield


def own_tokens(model: S2SModel, reply: Int[Tensor, "F M"]) -> Int[Tensor, "F N"]:
    """Our tokens of each position, from the rows that were given; codebook 0 of the last has no meaning.

    A row without a frame (-1) stands for the layout's padding.
    """
    delay = min(model.config.acoustic_delay, len(reply))
    first = torch.cat((reply[delay:, 2:3], reply.new_zeros(delay, 1)))
    tokens = torch.cat((reply[:, :1], first, reply[:, 3:]), dim=1)
    return torch.where(tokens < 0, model.config.pad_code, tokens)


def _remember(
    model: S2SModel,
    state: DuplexState,
    user_codes: Int[Tensor, "F K"],
    tokens: Int[Tensor, "F N"],
    told: Int[Tensor, "F"],
    conditions: SeatConditions,
) -> Iterator[None]:
    """The rings of frames whose tokens are all known."""
    position = torch.arange(len(tokens), device=tokens.device)
    heard = model.heard(user_codes.T[None], position[None])[0].T
    was_told = torch.cat((told.new_full((1,), model.config.initial_text), told))
    for first in range(0, len(tokens), SLICE_FRAMES):
        with torch.inference_mode():
            last = min(first + SLICE_FRAMES, len(tokens))
            own = tokens[max(0, first - 1) : last - 1]
            before = own if first else torch.cat((model.initial(1), own))
            x = model.embed(heard[first:last], before)[None]
            if model.hearing is not None:
                everyone = torch.ones_like(state.temporal.position, dtype=torch.bool)
                sounds = model.hearing.stream(state.hearing, heard[first:last].T[None], everyone)
                x = x + sounds.features
                state.told.copy_(model.hearing.told(sounds.words[:, -1], state.told)[0])
            if model.transcript is not None:
                x = x + model.transcript(was_told[first:last])
            if not model.tells_by_hearing:
                state.told.copy_(told[last - 1 : last])
            layers = model.temporal.layers_reached(len(tokens) - last + 1)
            rows = [conditions.rows, conditions.rows.dropped()][: state.passes]
            for temporal, own_rows in zip((state.temporal, *state.unconditioned), rows, strict=True):
                model.temporal.extend(temporal, x + model.conditioning(own_rows)[:, None], layers)
            state.before.copy_(tokens[last - 1 : last])
            _hear_late(state, user_codes[:last])
        yield


def _hear_late(state: DuplexState, user_codes: Int[Tensor, "F K"]) -> None:
    """Keep the last frames' acoustic codes, where the model hears them late."""
    late = state.heard.shape[1]
    last = user_codes[max(0, len(user_codes) - late) :, 1:] if late else user_codes[:0, 1:]
    if len(last):
        state.heard[0, late - len(last) :] = last


@torch.inference_mode()
def _relive(
    model: S2SModel,
    state: DuplexState,
    user_codes: Int[Tensor, "K"],
    tokens: Int[Tensor, "N"],
    told: Int[Tensor, ""],
    conditions: SeatConditions,
) -> None:
    """A position of which all is known but codebook 0."""
    everyone = torch.ones_like(state.temporal.position, dtype=torch.bool)
    draw = sampler(model, state, conditions)

    def choose(stream: int, logits: Tensor) -> Tensor:
        return draw(stream, logits) if stream == 1 else tokens[stream : stream + 1]

    said, _ = advance(model, state, user_codes[None], conditions, everyone, choose)
    shift_(state, said, everyone)
    if not model.tells_by_hearing:
        state.told.copy_(told)
