"""The S2S model a frame at a time, over `B` seats: user's codes in, text tokens and reply codes out.

The frame whose codebook 0 is decided at one step is complete `acoustic_delay` steps later, when its
other codebooks have been decided too; until the first is, a seat's row of codes is -1.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paluku.nn.attention import KeyValues
from paluku.nn.state import update_
from paluku.nn.transformer import TransformerState
from paluku.s2s.conditioning import ConditionRows
from paluku.s2s.depth_step import depth_rotations, depth_step, init_depth_cache
from paluku.s2s.hearing import HearingState
from paluku.s2s.model import S2SModel
from paluku.s2s.sampling import among_words, sample, uniform
from paluku.shapes import Mask
from paluku.tokens.text import PAD

NO_FRAME = -1

# Chooses the token of stream n (0 is our text, 1 + k is our codebook k) from its logits [B, V].
Choose = Callable[[int, Tensor], Tensor]


class SeatConditions(NamedTuple):
    """What each seat's session asked for."""

    rows: ConditionRows
    seed: Int[Tensor, "B"]
    temperature: Float[Tensor, "B"]  # of the codes
    top_k: Int[Tensor, "B"]
    text_temperature: Float[Tensor, "B"]
    text_top_k: Int[Tensor, "B"]
    guidance: Float[Tensor, "B"]  # 1 is as trained; heeded only where the state is guided


class DuplexState(NamedTuple):
    """Per seat; zero is fresh. The temporal transformer's position is the frame's number in its session."""

    before: Int[Tensor, "B N"]  # our tokens of the last position, text first; no meaning before the first
    first_codes: Int[Tensor, "B A"]  # codebook 0 of the frames that are not complete yet, oldest first
    heard: Int[Tensor, "B D K2"]  # the user's acoustic codes of the last frames, where they go in late
    hearing: HearingState  # of the model's `hearing`; of no frames where it has none
    # The user's text token of the last position, or, where hearing tells it, the last class of that.
    told: Int[Tensor, "B"]
    temporal: TransformerState
    unconditioned: tuple[TransformerState, ...]  # one where guided: the same frames, no condition
    depth: tuple[KeyValues, ...]  # room to work in: without meaning from one frame to the next

    @property
    def passes(self) -> int:
        """How often a frame goes through the model: twice where guided."""
        return 1 + len(self.unconditioned)


def init_duplex_state(model: S2SModel, batch: int, *, guided: bool = False) -> DuplexState:
    """Fresh seats on the model's device. `guided` seats cost twice as much."""
    config, device = model.config, model.text_head.weight.device

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(batch, *shape, dtype=torch.int64, device=device)

    deaf = HearingState(*(torch.zeros(batch, 0, 0, device=device) for _ in range(2)))
    return DuplexState(
        before=zeros(1 + config.num_codebooks),
        first_codes=zeros(config.acoustic_delay),
        heard=zeros(config.user_delay or 0, config.num_codebooks - 1),
        hearing=deaf if model.hearing is None else model.hearing.init_state(batch),
        told=zeros(),
        temporal=model.temporal.init_state(batch),
        unconditioned=(model.temporal.init_state(batch),) if guided else (),
        depth=init_depth_cache(model.depth, batch, 1 + guided),
    )


def duplex_step(
    model: S2SModel,
    state: DuplexState,
    user_codes: Int[Tensor, "B K"],
    conditions: SeatConditions,
    exec_mask: Mask,
) -> Int[Tensor, "B M"]:
    """One 40 ms frame: `[B, K]` user codes to `[B, 2 + K]`: our text token, the user's, our codes.

    The user's is the likeliest, `PAD` where the model hears no words. The codes are those of the frame
    that is complete now, or -1 when none is yet. State is updated in place where `exec_mask`; other rows
    give tokens without meaning. Nothing is recorded for a gradient.
    """
    with torch.no_grad():  # not inference_mode: torch.compile cannot follow it
        return _step(model, state, user_codes, conditions, exec_mask)


def _step(
    model: S2SModel,
    state: DuplexState,
    user_codes: Int[Tensor, "B K"],
    conditions: SeatConditions,
    exec_mask: Mask,
) -> Int[Tensor, "B M"]:
    is_complete = state.temporal.lived >= model.config.acoustic_delay
    choose = sampler(model, state, conditions)
    tokens, understood = advance(model, state, user_codes, conditions, exec_mask, choose)
    frame = torch.cat((shift_(state, tokens, exec_mask), tokens[:, 2:]), dim=1)
    frame = frame.masked_fill(~is_complete[:, None], NO_FRAME)
    return torch.cat((tokens[:, :1], understood[:, None], frame), dim=1)


def sampler(model: S2SModel, state: DuplexState, conditions: SeatConditions) -> Choose:
    """Draws each stream's token by the hash of each seat's seed and position."""
    chance = uniform(conditions.seed, state.temporal.position, 1 + model.config.num_codebooks)
    everything = torch.zeros_like(conditions.text_top_k)

    def choose(stream: int, logits: Tensor) -> Tensor:
        if stream:
            return sample(logits, chance[:, stream], conditions.temperature, conditions.top_k)
        words = among_words(logits, conditions.text_top_k, PAD)
        return sample(words, chance[:, 0], conditions.text_temperature, everything)

    return choose


def shift_(state: DuplexState, tokens: Int[Tensor, "B N"], exec_mask: Mask) -> Int[Tensor, "B 1"]:
    """Take in a position's codebook 0, in place; gives that of the frame which is complete now."""
    first_codes = torch.cat((state.first_codes, tokens[:, 1:2]), dim=1)
    update_(state.first_codes, first_codes[:, 1:], exec_mask)
    return first_codes[:, :1]


def advance(
    model: S2SModel,
    state: DuplexState,
    user_codes: Int[Tensor, "B K"],
    conditions: SeatConditions,
    exec_mask: Mask,
    choose: Choose,
) -> tuple[Int[Tensor, "B N"], Int[Tensor, "B"]]:
    """One position of the delay layout: our `1 + K` tokens, each chosen from its logits by `choose`.

    With them the user's text token. Updates the state in place where `exec_mask`, all but `first_codes`.
    """
    lived = state.temporal.lived  # a new tensor: the state's own changes below
    heard = _heard_(model, state, user_codes, lived, exec_mask)
    x = model.embed(heard, _before(model, state, lived))
    by_hearing = None
    if model.hearing is not None:
        sounds = model.hearing.stream(state.hearing, heard[..., None], exec_mask)
        x = x + sounds.features[:, 0]
        if model.tells_by_hearing:
            by_hearing = model.hearing.told(sounds.words[:, 0], state.told)
    if model.transcript is not None:
        x = x + model.transcript(state.told.masked_fill(lived == 0, model.config.initial_text))
    hidden = _hidden(model, state, x, conditions.rows, exec_mask)
    tokens = [choose(0, _guided(model.text_head(hidden), state, conditions))]
    tokens += _codes(model, state, hidden, tokens[0], lived, conditions, choose)
    update_(state.before, torch.stack(tokens, dim=1), exec_mask)
    if by_hearing is None:
        told = understood = _understood(model, hidden, state.passes)
    else:
        told, understood = by_hearing
    update_(state.told, told, exec_mask)
    return torch.stack(tokens, dim=1), understood


def _before(model: S2SModel, state: DuplexState, lived: Int[Tensor, "B"]) -> Int[Tensor, "B N"]:
    """Our tokens of the position before; those of `model.initial` where there was none."""
    fresh = (lived == 0)[:, None]
    text = state.before[:, :1].masked_fill(fresh, model.config.initial_text)
    return torch.cat((text, state.before[:, 1:].masked_fill(fresh, model.config.pad_code)), dim=1)


def _heard_(
    model: S2SModel,
    state: DuplexState,
    user_codes: Int[Tensor, "B K"],
    lived: Int[Tensor, "B"],
    exec_mask: Mask,
) -> Int[Tensor, "B K"]:
    """The user's codes as they go in at this position; a model may hear the acoustic ones late."""
    heard = model.heard_now(user_codes, state.heard, lived)
    if state.heard.shape[1]:
        update_(state.heard, torch.cat((state.heard[:, 1:], user_codes[:, None, 1:]), dim=1), exec_mask)
    return heard


def _hidden(
    model: S2SModel, state: DuplexState, x: Float[Tensor, "B D"], rows: ConditionRows, exec_mask: Mask
) -> Float[Tensor, "BP D"]:
    """The temporal output of each pass, those of a seat beside each other."""
    hidden = model.temporal.step(state.temporal, x + model.conditioning(rows), exec_mask)
    if not state.unconditioned:
        return hidden
    without = x + model.conditioning(rows.dropped())
    return torch.stack(
        (hidden, model.temporal.step(state.unconditioned[0], without, exec_mask)), dim=1
    ).flatten(0, 1)


def _guided(
    logits: Float[Tensor, "BP V"], state: DuplexState, conditions: SeatConditions
) -> Float[Tensor, "B V"]:
    """Classifier-free guidance (Ho & Salimans 2022, equation 6, with `guidance = 1 + w`)."""
    if not state.unconditioned:
        return logits
    conditioned, without = logits.unflatten(0, (-1, 2)).unbind(1)
    return without + conditions.guidance[:, None].to(logits.dtype) * (conditioned - without)


def _understood(model: S2SModel, hidden: Float[Tensor, "BP D"], passes: int) -> Int[Tensor, "B"]:
    """The user's text token. The transcript of what is heard is not a matter of guidance."""
    own = hidden[::passes]
    if model.user_text_head is None:
        return torch.full((len(own),), PAD, dtype=torch.int64, device=own.device)
    return model.user_text_head(own).argmax(dim=1)


def _codes(
    model: S2SModel,
    state: DuplexState,
    hidden: Float[Tensor, "BP D"],
    token: Int[Tensor, "B"],
    lived: Int[Tensor, "B"],
    conditions: SeatConditions,
    choose: Choose,
) -> list[Int[Tensor, "B"]]:
    """`K` steps of the depth transformer; every seat takes them.

    A codebook whose first frame is still to come says `pad_code`, as in training.
    """
    depth, codes = model.depth, []
    projected = depth.projected(hidden).unflatten(0, (-1, state.passes))  # [B, P, K, E]
    rotations = depth_rotations(depth)
    for k, delay in enumerate(model.config.delays):
        x = (projected[:, :, k] + depth.embed(k, token)[:, None]).flatten(0, 1)
        logits = depth_step(depth, state.depth, x, k, rotations[k])
        token = choose(1 + k, _guided(logits, state, conditions))
        if delay:
            token = token.masked_fill(lived < delay, model.config.pad_code)
        codes.append(token)
    return codes
