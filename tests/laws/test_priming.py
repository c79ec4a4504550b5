"""Laws of priming: a seat that was primed goes on as if it had lived through the history itself.

The S2S model is tiny, with random weights, the codec the native one: what they say is noise, and it
depends on everything that they can see.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.codec.native import NativeCodec, NativeCodecConfig, NetConfig
from paluku.nn.state import leaves
from paluku.s2s.duplex import DuplexState, SeatConditions, advance, init_duplex_state, shift_
from paluku.s2s.model import HearingConfig, S2SModel
from paluku.s2s.prefill import only_seat, prefill, reach_frames
from paluku.streaming.fused import FusedStage, split
from paluku.streaming.ports import FIRST_CODE, Batch, Conditions, History, Stage
from paluku.streaming.stages import ConverseStage, DecodeStage, EncodeStage
from tests.fakes.s2s import CONFIG, HEARING, K, V, seat_conditions

FRAME = 640
SMALL = NetConfig(hidden=16, units=2)
WHO = Conditions(voice="lakshmi", style="happy", seed=11, temperature=0.9, top_k=12)
OTHER = Conditions(voice="arjun", seed=5)


def with_config(**update: object) -> S2SModel:
    config = CONFIG.model_copy(update=update)
    model = S2SModel(config).eval().requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.2)
    return model


MODELS = {
    delay: with_config(acoustic_delay=delay, layers=2, **about)
    for delay, about in (
        (0, {"hearing": HEARING, "user_text": False}),
        (1, {"hearing": HEARING, "hears_transcript": True}),
        (2, {"hears_transcript": True}),
    )
}
REACH = {delay: reach_frames(model) for delay, model in MODELS.items()}


def make_codec() -> NativeCodec:
    torch.manual_seed(0)
    config = NativeCodecConfig(latent_dim=16, encoder=SMALL, decoder=SMALL, num_codebooks=K, codebook_size=V)
    codec = NativeCodec(config)
    with torch.no_grad():  # the networks are quiet in a new codec: loud here, so that their past is heard
        for network in (codec.encoder, codec.decoder):
            network.last.weight.mul_(20)
        noise = torch.randn(8, 1, 20 * FRAME)
        codec.quantizer.initialise_(codec.latents(noise))
    return codec.eval().requires_grad_(False)


CODEC = make_codec()


def codes(seed: int, frames: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, (frames, K)).astype(np.int16)


def speech(seed: int, frames: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((frames, FRAME)) * 6000).astype(np.int16)


def run(stage: Stage, seat: int, rows: np.ndarray) -> np.ndarray:
    return np.stack([stage.step(Batch(np.array([seat], np.int32), row[None])).payload[0] for row in rows])


def opened(stage: Stage, seat: int, who: Conditions = WHO) -> Stage:
    stage.open(seat, who)
    return stage


def prime(stage: Stage, seat: int, history: History, between: Callable[[], None] = lambda: None) -> None:
    for _ in stage.prime(seat, history):
        between()


NO_PCM = np.zeros((0, FRAME), np.int16)


def rows_of(codes: np.ndarray, text: int) -> np.ndarray:
    """Reply rows `[F, 2 + K]` of some codes `[F, K]`; nothing was understood."""
    texts = np.tile(np.array([text, 0], np.int16), (len(codes), 1))
    return np.hstack((texts, codes))


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(0, 60), delay=st.integers(0, 2), kept=st.integers(0, 12), data=st.data())
def test_converse_goes_on_as_if_it_had_lived_through_the_history(
    frames: int, delay: int, kept: int, data: st.DataObject
) -> None:
    """All of the history, or its end, at least as long as the state's reach; while another seat steps."""
    model, user = MODELS[delay], codes(3, frames + 8)
    start = max(0, frames - REACH[delay] - kept) if data.draw(st.booleans()) else 0
    stepped = opened(ConverseStage(model, 1), 0)
    said = run(stepped, 0, user)
    primed = opened(opened(ConverseStage(model, 3), 1), 2, OTHER)
    bystander, alone = list[np.ndarray](), opened(ConverseStage(model, 3), 2, OTHER)

    def between() -> None:
        bystander.append(run(primed, 2, codes(len(bystander), 1))[0])

    prime(primed, 1, History(start, NO_PCM, user[start:frames], said[start:frames]), between)
    assert np.array_equal(run(primed, 1, user[frames:]), said[frames:])
    between()
    assert np.array_equal(bystander, [run(alone, 2, codes(n, 1))[0] for n in range(len(bystander))])


def forced_steps(model: S2SModel, user: torch.Tensor, rows: torch.Tensor, who: SeatConditions) -> DuplexState:
    """The reference: each position by itself, its tokens given but for the last codebook 0."""
    state, everyone = init_duplex_state(model, 1), torch.ones(1, dtype=torch.bool)
    delay, pad = model.config.acoustic_delay, model.config.pad_code
    for t in range(len(rows) - delay):

        def given_token(stream: int, logits: torch.Tensor, t: int = t) -> torch.Tensor:
            column = stream + 1 if stream else 0
            row = rows[t + delay] if stream == 1 else rows[t]
            return torch.where(row[column : column + 1] < 0, pad, row[column : column + 1])

        with torch.inference_mode():
            said, _ = advance(model, state, user[t : t + 1], who, everyone, given_token)
            shift_(state, said, everyone)
            if not model.tells_by_hearing:
                state.told.copy_(rows[t : t + 1, 1])
    return state


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_replies_that_this_model_would_not_have_given_are_taken_as_they_are(delay: int) -> None:
    model, frames = MODELS[delay], 14
    user, rows = torch.from_numpy(codes(1, frames)).long(), torch.from_numpy(codes(2, frames)).long()
    rows = torch.cat((torch.arange(frames)[:, None], torch.full((frames, 1), 5), rows), dim=1)
    rows[:delay, 2:] = -1
    who = seat_conditions(model, 3)
    expected = forced_steps(model, user, rows, who)
    known = frames - delay
    state = init_duplex_state(model, 2)
    both = seat_conditions(model, 3, 3)
    own, conditions = only_seat(state, both, 1)
    # Without the last positions, of which something is drawn: a history that ends where the reference does.
    slices = prefill(model, own, 0, user, rows, conditions)
    for _ in range(-(-known // 64)):
        next(slices)
    for was, now in zip(leaves(expected.temporal), leaves(own.temporal), strict=True):
        torch.testing.assert_close(now, was, atol=1e-5, rtol=1e-4)
    assert torch.equal(own.before, expected.before)
    assert torch.equal(own.told, expected.told)
    for _ in slices:
        pass
    assert int(state.temporal.position[1]) == frames
    assert not any(leaf[0].any() for leaf in leaves(state)), "the seat beside it is as it was"


def test_a_history_shorter_than_the_reach_is_all_there_is() -> None:
    """What lies before a truncated history is as if it had not been: padding is not attended to."""
    model, user = MODELS[1], codes(3, 30)
    said = run(opened(ConverseStage(model, 1), 0), 0, user)
    cut = History(20, NO_PCM, user[20:26], said[20:26])
    one, other = (opened(ConverseStage(model, 2), seat) for seat in (0, 1))
    prime(one, 0, cut)
    run(other, 1, codes(9, 13))  # another has sat there
    other.close(1)
    prime(opened(other, 1), 1, cut)
    assert np.array_equal(run(one, 0, user[26:]), run(other, 1, user[26:]))
    assert REACH[1] > 6


def test_who_forgets_begins_afresh_where_he_is() -> None:
    empty = np.zeros((0, 0), np.int16)
    stage = opened(ConverseStage(MODELS[2], 1), 0)
    prime(stage, 0, History(500, empty, empty, empty))
    said = run(stage, 0, codes(4, 30))
    assert (said[:2, FIRST_CODE:] == -1).all(), "no reply frame is complete before the acoustic delay"
    assert (said[2:] >= 0).all()
    moved = opened(ConverseStage(MODELS[2], 1), 0)
    prime(moved, 0, History(500, empty, codes(4, 30)[:20], said[:20]))
    assert np.array_equal(run(moved, 0, codes(4, 30)[20:]), said[20:])


@pytest.mark.parametrize("longer", [0, 5])
def test_the_codec_forgets_after_its_reach(longer: int) -> None:
    """To the bit; and one frame less is not enough, so the reach is no guess."""
    everyone, total = torch.ones(1, dtype=torch.bool), 30
    wave = torch.randn(1, 1, total * FRAME, generator=torch.Generator().manual_seed(2))
    tokens = torch.from_numpy(codes(6, total)).long().T[None]

    def encoded(first: int) -> list[torch.Tensor]:
        state = CODEC.init_encode_state(1)
        for frame in range(first, total):
            CODEC.encode_step(state, wave[..., frame * FRAME : (frame + 1) * FRAME], everyone)
        return list(leaves(state))

    def decoded(first: int) -> list[torch.Tensor]:
        state = CODEC.init_decode_state(1)
        for frame in range(first, total):
            CODEC.decode_step(state, tokens[..., frame : frame + 1], everyone)
        return list(leaves(state))

    for live, reach in ((encoded, CODEC.encode_reach_frames), (decoded, CODEC.decode_reach_frames)):
        whole = live(0)
        assert all(map(torch.equal, live(total - reach - longer), whole))
        assert not all(map(torch.equal, live(total - reach + 1), whole))


@pytest.mark.parametrize("frames", [0, 4, 25])
@pytest.mark.parametrize("is_whole", [True, False])
def test_encode_and_decode_go_on_as_if_they_had_lived_through_the_history(
    frames: int, is_whole: bool
) -> None:
    pcm, replies = speech(1, frames + 5), rows_of(codes(2, frames + 5), 7)
    replies[:2, FIRST_CODE:] = -1
    for kind, rows, reach in (
        (EncodeStage, pcm, CODEC.encode_reach_frames),
        (DecodeStage, replies[:, FIRST_CODE:], CODEC.decode_reach_frames),
    ):
        start = 0 if is_whole else max(0, frames - reach)
        # The same seat of as many: the codec's convolutions round differently by the row.
        stepped = run(opened(kind(CODEC, 3), 1), 1, rows)
        primed = opened(kind(CODEC, 3), 1)
        prime(primed, 1, History(start, pcm[start:frames], codes(1, frames)[start:], replies[start:frames]))
        assert np.array_equal(run(primed, 1, rows[frames:]), stepped[frames:])


def apart(stages: Sequence[Stage], seat: int, pcm: np.ndarray) -> np.ndarray:
    encode, converse, decode = stages
    user = run(encode, seat, pcm)
    reply = run(converse, seat, user)
    return np.hstack((user, reply, run(decode, seat, np.ascontiguousarray(reply[:, FIRST_CODE:]))))


def three(num_seats: int) -> tuple[Stage, Stage, Stage]:
    return (
        EncodeStage(CODEC, num_seats),
        ConverseStage(MODELS[1], num_seats),
        DecodeStage(CODEC, num_seats),
    )


def test_fused_is_the_three_stages_bit_for_bit_also_primed() -> None:
    pcm, frames = speech(7, 40), 33
    stages = three(2)
    for stage in stages:
        stage.open(1, WHO)
    expected = apart(stages, 1, pcm)
    fused = opened(FusedStage(*three(2)), 1)
    told = run(fused, 1, pcm)
    assert np.array_equal(told, expected)
    assert told.dtype == np.int16
    rows = split(told, FRAME)
    assert (rows.user_codes.shape, rows.reply.shape, rows.pcm.shape) == ((40, K), (40, 2 + K), (40, FRAME))
    assert fused.reach_frames == max(stage.reach_frames for stage in stages)
    moved = opened(FusedStage(*three(2)), 0)
    start = frames - fused.reach_frames
    kept = slice(start, frames)
    prime(moved, 0, History(start, pcm[kept], rows.user_codes[kept], rows.reply[kept]))
    assert np.array_equal(run(moved, 0, pcm[frames:]), expected[frames:])


@pytest.mark.parametrize("after", [1, 12, 40])
def test_a_seat_that_is_closed_while_it_is_primed_is_fresh_for_the_next(after: int) -> None:
    pcm, user = speech(7, 30), codes(5, 30)
    fused, fresh = opened(FusedStage(*three(1)), 0), opened(FusedStage(*three(1)), 0, OTHER)
    slices = fused.prime(0, History(0, pcm, user, rows_of(user, 3)))
    for _ in range(after):
        next(slices, None)
    fused.close(0)
    opened(fused, 0, OTHER)
    assert next(slices, "over") == "over"
    assert np.array_equal(run(fused, 0, pcm), run(fresh, 0, pcm))


@pytest.mark.parametrize("hearing", [None, HEARING])
def test_a_model_in_bfloat16_is_primed_too(hearing: HearingConfig | None) -> None:
    model = with_config(acoustic_delay=1, layers=2, hearing=hearing).bfloat16()
    stage, user = opened(ConverseStage(model, 1), 0), codes(1, 20)
    prime(stage, 0, History(0, NO_PCM, user, rows_of(user, 3)))
    assert (run(stage, 0, codes(2, 1))[0, FIRST_CODE:] >= 0).all(), "its next frame is complete"
