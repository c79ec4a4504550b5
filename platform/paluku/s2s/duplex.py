"""The S2S model a frame at a time, over `B` seats: user's codes in, text token and reply codes out.

The frame whose codebook 0 is decided at one step is complete `acoustic_delay` steps later, when its
other codebooks have been decided too; until the first is, a seat's row of codes is -1.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paluku.nn.state import update_
from paluku.nn.transformer import TransformerState
from paluku.s2s.model import S2SModel
from paluku.s2s.sampling import gumbel, sample
from paluku.shapes import Mask

NO_FRAME = -1

# Chooses the token of stream n (0 is text, 1 + k is codebook k) from its logits [B, V].
Choose = Callable[[int, Tensor], Tensor]


class SeatConditions(NamedTuple):
    """What each seat's session asked for. `voice` and `style` are rows of `s2s.conditioning`."""

    voice: Int[Tensor, "B"]
    style: Int[Tensor, "B"]
    seed: Int[Tensor, "B"]
    temperature: Float[Tensor, "B"]
    top_k: Int[Tensor, "B"]


class DuplexState(NamedTuple):
    """Per seat; zero is fresh. The temporal transformer's position is the frame's number in its session."""

    before: Int[Tensor, "B N"]  # our tokens of the last position, text first; no meaning before the first
    first_codes: Int[Tensor, "B A"]  # codebook 0 of the frames that are not complete yet, oldest first
    temporal: TransformerState


def init_duplex_state(model: S2SModel, batch: int) -> DuplexState:
    """Fresh seats on the model's device."""
    config, device = model.config, model.text_head.weight.device
    before = torch.zeros(batch, 1 + config.num_codebooks, dtype=torch.int64, device=device)
    first_codes = torch.zeros(batch, config.acoustic_delay, dtype=torch.int64, device=device)
    return DuplexState(before, first_codes, model.temporal.init_state(batch))


@torch.inference_mode()
def duplex_step(
    model: S2SModel,
    state: DuplexState,
    user_codes: Int[Tensor, "B K"],
    conditions: SeatConditions,
    exec_mask: Mask,
) -> Int[Tensor, "B N"]:
    """One 40 ms frame: `[B, K]` user codes to `[B, 1 + K]`, the text token first.

    The codes are those of the frame that is complete now, or -1 when none is yet. State is updated in
    place where `exec_mask`; other rows give tokens without meaning.
    """
    is_complete = state.temporal.lived >= model.config.acoustic_delay
    tokens = advance(model, state, user_codes, conditions, exec_mask, sampler(model, state, conditions))
    frame = torch.cat((shift_(state, tokens, exec_mask), tokens[:, 2:]), dim=1)
    return torch.cat((tokens[:, :1], torch.where(is_complete[:, None], frame, NO_FRAME)), dim=1)


def sampler(model: S2SModel, state: DuplexState, conditions: SeatConditions) -> Choose:
    """Draws each stream's token with the noise of each seat's seed and position."""
    config = model.config
    candidates = max(config.text_vocab, config.codebook_size)
    noise = gumbel(conditions.seed, state.temporal.position, 1 + config.num_codebooks, candidates)

    def choose(stream: int, logits: Tensor) -> Tensor:
        own_noise = noise[:, stream, : logits.shape[1]]
        return sample(logits, own_noise, conditions.temperature, conditions.top_k)

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
) -> Int[Tensor, "B N"]:
    """One position of the delay layout: our `1 + K` tokens, each chosen from its logits by `choose`.

    Updates the state in place where `exec_mask`, all but `first_codes`.
    """
    lived = state.temporal.lived
    before = torch.where(lived[:, None] == 0, model.initial(len(lived)), state.before)
    x = model.embed(user_codes, before) + model.conditioning(conditions.voice, conditions.style)
    hidden = model.temporal.step(state.temporal, x, exec_mask)
    tokens = [choose(0, model.text_head(hidden))]
    tokens += _codes(model, hidden, tokens[0], lived, choose)
    update_(state.before, torch.stack(tokens, dim=1), exec_mask)
    return torch.stack(tokens, dim=1)


def _codes(
    model: S2SModel,
    hidden: Float[Tensor, "B D"],
    token: Int[Tensor, "B"],
    lived: Int[Tensor, "B"],
    choose: Choose,
) -> list[Int[Tensor, "B"]]:
    """`K` steps of the depth transformer, whose state lives within the frame; every seat takes them.

    A codebook whose first frame is still to come says `pad_code`, as in training.
    """
    depth, codes = model.depth, []
    state = depth.transformer.init_state(len(hidden))
    everyone = torch.ones_like(lived, dtype=torch.bool)
    projected = depth.projected(hidden)
    for k, (head, delay) in enumerate(zip(depth.heads, model.config.delays, strict=True)):
        x = projected[:, k] + depth.embed(k, token)
        chosen = choose(1 + k, head(depth.transformer.step(state, x, everyone)))
        token = torch.where(lived < delay, model.config.pad_code, chosen)
        codes.append(token)
    return codes
