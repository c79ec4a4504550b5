"""A seat brought to where a session was, from the frames it lived through: one prefill, in slices.

The replies are taken as they were given, whatever this model would say. Row `t` of a session holds the
text token and the acoustic codes decided at position `t`, and codebook 0 of `acoustic_delay` positions
earlier. So the codebook 0 of the last `acoustic_delay` positions was not heard by anyone yet: it is
drawn again there, with the noise of the seat's seed and position, which gives the same model the same.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from paluku.nn.attention import KeyValues
from paluku.nn.transformer import TransformerState
from paluku.s2s.duplex import DuplexState, SeatConditions, advance, sampler, shift_
from paluku.s2s.model import S2SModel

# At the demo's size 4 to 5 ms on one core; other seats wait for so long, once per slice.
SLICE_FRAMES = 64


def reach_frames(model: S2SModel) -> int:
    """How many frames determine the state.

    The temporal transformer's reach, the position before it (our own tokens enter one position later),
    and those whose codebook 0 is drawn from a state as old.
    """
    return model.temporal.reach + 1 + model.config.acoustic_delay


def only_seat(
    state: DuplexState, conditions: SeatConditions, seat: int
) -> tuple[DuplexState, SeatConditions]:
    """One seat of a table as views: what is changed there in place is changed in the table."""
    here = slice(seat, seat + 1)
    temporal = state.temporal
    rings = tuple(KeyValues(ring.keys[here], ring.values[here]) for ring in temporal.layers)
    alone = TransformerState(temporal.position[here], temporal.start[here], rings)
    own_conditions = SeatConditions(*(condition[here] for condition in conditions))
    return DuplexState(state.before[here], state.first_codes[here], alone), own_conditions


def prefill(
    model: S2SModel,
    state: DuplexState,
    start: int,
    user_codes: Int[Tensor, "F K"],
    reply: Int[Tensor, "F N"],
    conditions: SeatConditions,
) -> Iterator[None]:
    """Live through frames `start` on, whose replies `[F, 1 + K]` are known; yields after each slice.

    `state` and `conditions` hold one fresh seat (`only_seat`); the state is changed in place. What lies
    before `start` is as if it had not been. The conditions are taken to have been the same all along.
    """
    # Frames of older positions than this reach nothing that is to come.
    skipped = max(0, len(reply) - reach_frames(model))
    start, user_codes, reply = start + skipped, user_codes[skipped:], reply[skipped:]
    state.temporal.start.fill_(start)
    state.temporal.position.fill_(start)
    tokens = own_tokens(model, reply)
    known = max(0, len(tokens) - model.config.acoustic_delay)
    yield from _remember(model, state, user_codes[:known], tokens[:known], conditions)
    for index in range(known, len(tokens)):
        _relive(model, state, user_codes[index], tokens[index], conditions)
        yield


def own_tokens(model: S2SModel, reply: Int[Tensor, "F N"]) -> Int[Tensor, "F N"]:
    """Our tokens of each position, from the rows that were given; codebook 0 of the last has no meaning.

    A row without a frame (-1) stands for the layout's padding.
    """
    delay = min(model.config.acoustic_delay, len(reply))
    first = torch.cat((reply[delay:, 1:2], reply.new_zeros(delay, 1)))
    tokens = torch.cat((reply[:, :1], first, reply[:, 2:]), dim=1)
    return torch.where(tokens < 0, model.config.pad_code, tokens)


def _remember(
    model: S2SModel,
    state: DuplexState,
    user_codes: Int[Tensor, "F K"],
    tokens: Int[Tensor, "F N"],
    conditions: SeatConditions,
) -> Iterator[None]:
    """The rings of frames whose tokens are all known."""
    for first in range(0, len(tokens), SLICE_FRAMES):
        with torch.inference_mode():
            last = min(first + SLICE_FRAMES, len(tokens))
            own = tokens[max(0, first - 1) : last - 1]
            before = own if first else torch.cat((model.initial(1), own))
            x = model.embed(user_codes[first:last], before)[None]
            x = x + model.conditioning(conditions.voice, conditions.style)[:, None]
            model.temporal.extend(state.temporal, x, model.temporal.layers_reached(len(tokens) - last + 1))
            state.before.copy_(tokens[last - 1 : last])
        yield


@torch.inference_mode()
def _relive(
    model: S2SModel,
    state: DuplexState,
    user_codes: Int[Tensor, "K"],
    tokens: Int[Tensor, "N"],
    conditions: SeatConditions,
) -> None:
    """A position of which all is known but codebook 0."""
    everyone = torch.ones_like(state.temporal.position, dtype=torch.bool)
    draw = sampler(model, state, conditions)

    def choose(stream: int, logits: Tensor) -> Tensor:
        return draw(stream, logits) if stream == 1 else tokens[stream : stream + 1]

    shift_(state, advance(model, state, user_codes[None], conditions, everyone, choose), everyone)
