"""Laws of the S2S model in a stream: it is the model that was trained, and a seat is a session's own."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from paluku.nn.state import leaves, put_, reset_, take
from paluku.s2s.duplex import DuplexState, SeatConditions, advance, duplex_step, init_duplex_state
from paluku.s2s.model import S2SModel
from paluku.tokens.layout import undelay
from tests.fakes.s2s import CONFIG, HEARING, K, V, seat_conditions, tiny_s2s

W = CONFIG.window


def with_config(**update: object) -> S2SModel:
    depth = CONFIG.depth.model_copy(update={"per_step": update.pop("per_step", False)})
    model = S2SModel(CONFIG.model_copy(update={**update, "depth": depth}))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.data.normal_(std=0.2)
    return model.eval().requires_grad_(False)


MODELS = {
    **{f"delay {d}": with_config(acoustic_delay=d) for d in (0, 1, 2)},
    "each code its own matrices": with_config(per_step=True),
    "the user heard late": with_config(user_delay=2),
    "no user's transcript": with_config(user_text=False),
    "hears its transcript": with_config(hears_transcript=True),
    "hears": with_config(hearing=HEARING),
    "hearing tells": with_config(hearing=HEARING, user_text=False),
    "hears what is late": with_config(hearing=HEARING, user_delay=1),
}
MODEL = tiny_s2s()


def everyone(seats: int) -> torch.Tensor:
    return torch.ones(seats, dtype=torch.bool)


def conditions(*seeds: int, temperature: float = 1.0) -> SeatConditions:
    return seat_conditions(MODEL, *seeds, temperature=temperature)


def words(session: int, frames: int) -> torch.Tensor:
    """A user's codes, `[T, K]`."""
    return torch.randint(0, V, (frames, K), generator=torch.Generator().manual_seed(session))


def heard_alone(session: int, frames: int, seats: int = 1, seat: int = 0) -> torch.Tensor:
    """What a session is told with nobody else in the table, `[T, 2 + K]`."""
    state, mask = init_duplex_state(MODEL, seats), torch.zeros(seats, dtype=torch.bool)
    mask[seat] = True
    who, codes = conditions(*[session] * seats), words(session, frames)
    return torch.stack(
        [duplex_step(MODEL, state, frame.expand(seats, -1), who, mask)[seat] for frame in codes]
    )


@settings(max_examples=12, deadline=None)
@given(
    frames=st.integers(1, 4 * W),
    seed=st.integers(0, 999),
    name=st.sampled_from(sorted(MODELS)),
)
def test_given_the_same_tokens_a_stream_says_what_the_full_sequence_says(
    frames: int, seed: int, name: str
) -> None:
    model, generator = MODELS[name], torch.Generator().manual_seed(seed)
    agent, user = torch.randint(0, V, (2, 2, K, frames), generator=generator)
    text = torch.randint(0, CONFIG.text_vocab, (2, frames), generator=generator)
    who, document = seat_conditions(model, seed, seed + 1), torch.arange(2)[:, None].expand(2, frames)
    own, state = model.delayed(agent, document), init_duplex_state(model, 2)
    said: list[list[torch.Tensor]] = [[] for _ in range(frames)]
    heard: list[torch.Tensor] = []
    for t in range(frames):

        def forced(stream: int, logits: torch.Tensor, t: int = t) -> torch.Tensor:
            said[t].append(logits)
            # Where the layout stands for no frame any token may be chosen: it must not matter.
            return text[:, t] if stream == 0 else own[:, stream - 1, t] % V

        with torch.inference_mode():
            tokens, understood = advance(model, state, user[:, :, t], who, everyone(2), forced)
        assert torch.equal(tokens, torch.cat((text[:, t : t + 1], own[:, :, t]), dim=1))
        heard.append(understood)
    transcript = torch.stack(heard, dim=1)
    with torch.inference_mode():
        full = model(agent, user, text, document, who.rows, user_text=transcript)
    codes = full.codes.unflatten(0, (2, frames))
    for t in range(frames):
        torch.testing.assert_close(said[t][0], full.text[:, t], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.stack(said[t][1:], 1), codes[:, t], atol=1e-4, rtol=1e-4)
    if model.tells_by_hearing:
        words = model.hearing(user, torch.arange(frames).expand(2, -1)).words
        classes = model.hearing.tokens(words).argmax(dim=2)
        again = torch.cat((torch.zeros(2, 1), classes[:, :-1]), dim=1) == classes
        assert torch.equal(transcript, classes.masked_fill(again, 0))
    elif full.user_text is None:
        assert not transcript.any()
    else:
        assert torch.equal(transcript, full.user_text.argmax(dim=2))


@settings(max_examples=6, deadline=None)
@given(
    frames=st.integers(1, 3 * W),
    cuts=st.lists(st.integers(0, 3 * W), max_size=3),
    seed=st.integers(0, 99),
    name=st.sampled_from(sorted(MODELS)),
)
def test_a_stream_in_any_pieces_says_what_the_full_sequence_says(
    frames: int, cuts: list[int], seed: int, name: str
) -> None:
    """Greedy, each piece in another table, its state carried there as it would be to another replica."""
    model, user = MODELS[name], words(seed, frames)
    who = seat_conditions(model, seed, temperature=0.0)
    heard, state = [], init_duplex_state(model, 1)
    for t, frame in enumerate(user):
        if t in cuts:
            moved = init_duplex_state(model, 1)
            put_(moved, 0, take(state, 0))
            state = moved
        heard.append(duplex_step(model, state, frame[None], who, everyone(1))[0])
    told, delay = torch.stack(heard), model.config.acoustic_delay
    document = torch.zeros(1, frames, dtype=torch.int64)
    # Codebook 0 of the last frames is not heard yet; it is that of no complete frame.
    agent = torch.cat((told[delay:, 2:], torch.zeros(min(delay, frames), K, dtype=torch.int64))).T[None]
    text = told[None, :, 0]
    with torch.inference_mode():
        full = model(agent, user.T[None], text, document, who.rows, user_text=told[None, :, 1])
    known = frames - delay
    assert are_likeliest(full.text[0, : known + 1], text[0, : known + 1])
    if full.user_text is not None:
        assert are_likeliest(full.user_text[0, : known + 1], told[: known + 1, 1])
    own = model.delayed(agent, document)[0]
    decided = (own < V) & (torch.arange(frames) < known)
    assert are_likeliest(full.codes.transpose(0, 1)[decided], own[decided])


def are_likeliest(logits: torch.Tensor, chosen: torch.Tensor) -> bool:
    """Whether no other token is likelier by more than rounding."""
    return bool((logits.gather(1, chosen[:, None])[:, 0] > logits.amax(dim=1) - 1e-4).all())


@pytest.mark.parametrize("acoustic_delay", [0, 1, 2])
def test_reply_frames_are_the_undelayed_positions(acoustic_delay: int) -> None:
    # What advance() decides, position by position, is what duplex_step() gives, frame by frame.
    model, codes = MODELS[f"delay {acoustic_delay}"], words(5, 10)
    who, mask = seat_conditions(model, 5, temperature=0.0), everyone(1)
    one, other = init_duplex_state(model, 1), init_duplex_state(model, 1)

    def likeliest(_: int, logits: torch.Tensor) -> torch.Tensor:
        return logits.argmax(dim=1)

    with torch.inference_mode():
        positions = torch.cat([advance(model, one, frame[None], who, mask, likeliest)[0] for frame in codes])
    replies = torch.cat([duplex_step(model, other, frame[None], who, mask) for frame in codes])
    assert torch.equal(replies[:, 0], positions[:, 0])
    assert (replies[:acoustic_delay, 2:] == -1).all()
    frames = undelay(positions[:, 1:].T[None], model.config.delays)[0].T
    assert torch.equal(replies[acoustic_delay:, 2:], frames)
    assert frames.min() >= 0
    assert frames.max() < V


@settings(max_examples=8, deadline=None)
@given(data=st.data(), mine=st.integers(0, 3))
def test_a_seat_hears_the_same_bit_for_bit_whoever_sits_beside_it(data: st.DataObject, mine: int) -> None:
    """Same number of seats; the others come, go, pause, are reset and say anything."""
    frames, seats = W + 4, 4
    state, codes = init_duplex_state(MODEL, seats), words(77, frames)
    who = conditions(*[77 if seat == mine else 100 + seat for seat in range(seats)])
    noise = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    heard, lived = [], 0
    for _ in range(2 * frames):
        mask = torch.rand(seats, generator=noise) < 0.7
        reset = torch.rand(seats, generator=noise) < 0.2
        reset[mine] = False
        reset_(state, reset)
        user = torch.randint(0, V, (seats, K), generator=noise)
        if lived == frames:
            break
        user[mine] = codes[lived]
        reply = duplex_step(MODEL, state, user, who, mask)
        if mask[mine]:
            heard.append(reply[mine])
            lived += 1
    assert torch.equal(torch.stack(heard), heard_alone(77, frames, seats, mine)[:lived])


@pytest.mark.parametrize("seats", [2, 3, 8])
def test_a_session_hears_the_same_in_a_table_of_any_size(seats: int) -> None:
    for seat in (0, seats - 1):
        assert torch.equal(heard_alone(9, 3 * W, seats, seat), heard_alone(9, 3 * W))


def test_a_used_seat_that_was_reset_is_a_fresh_one() -> None:
    state, mask = init_duplex_state(MODEL, 1), torch.tensor([True])
    for frame in words(1, W + 3):
        duplex_step(MODEL, state, frame[None], conditions(1), mask)
    reset_(state, mask)
    assert not any(leaf.any() for leaf in leaves(state))
    told = [duplex_step(MODEL, state, frame[None], conditions(2), mask)[0] for frame in words(2, W + 3)]
    assert torch.equal(torch.stack(told), heard_alone(2, W + 3))


def test_a_session_goes_on_in_another_seat() -> None:
    here, there = init_duplex_state(MODEL, 2), init_duplex_state(MODEL, 2)
    first, second = torch.tensor([True, False]), torch.tensor([False, True])
    codes, who = words(4, 2 * W), conditions(4, 4)
    told = [duplex_step(MODEL, here, frame.expand(2, -1), who, first)[0] for frame in codes[:W]]
    put_(there, 1, take(here, 0))
    told += [duplex_step(MODEL, there, frame.expand(2, -1), who, second)[1] for frame in codes[W:]]
    assert torch.equal(torch.stack(told), heard_alone(4, 2 * W))


def test_same_seed_same_sound_another_seed_another() -> None:
    def told(seed: int, temperature: float) -> torch.Tensor:
        state, mask = init_duplex_state(MODEL, 1), torch.tensor([True])
        who = conditions(1, temperature=temperature)._replace(seed=torch.tensor([seed]))
        return torch.cat([duplex_step(MODEL, state, frame[None], who, mask) for frame in words(3, 10)])

    assert torch.equal(told(1, 1.0), told(1, 1.0))
    assert not torch.equal(told(1, 1.0), told(2, 1.0))
    assert torch.equal(told(1, 0.0), told(2, 0.0)), "at temperature 0 there is nothing to draw"


def other_conditions(who: SeatConditions, what: str) -> SeatConditions:
    rows = conditions(3).rows
    return who._replace(rows=who.rows._replace(**{what: getattr(rows, what)}))


def test_what_it_has_told_of_the_user_changes_what_it_says_next() -> None:
    model, codes, who = MODELS["hears its transcript"], words(3, 6), conditions(1, temperature=0.0)

    def told(other: int) -> torch.Tensor:
        state = init_duplex_state(model, 1)
        replies = []
        for frame in codes:
            replies.append(duplex_step(model, state, frame[None], who, everyone(1)))
            state.told.add_(other).remainder_(CONFIG.text_vocab)
        return torch.cat(replies)

    assert torch.equal(told(0)[:1], told(1)[:1])
    assert not torch.equal(told(0)[1:], told(1)[1:])


@pytest.mark.parametrize("what", ["user", "speaker", "style"])
def test_it_listens(what: str) -> None:
    def told(other: bool) -> torch.Tensor:
        state: DuplexState = init_duplex_state(MODEL, 1)
        who = conditions(1, temperature=0.0)
        if other and what != "user":
            who = other_conditions(who, what)
        codes = words(8 if other and what == "user" else 3, 10)
        return torch.cat([duplex_step(MODEL, state, f[None], who, torch.tensor([True])) for f in codes])

    assert not torch.equal(told(other=True), told(other=False))


def test_state_made_outside_inference_mode_can_be_changed_there() -> None:
    # The engine resets seats wherever it is; tensors born in inference mode would refuse.
    assert not any(leaf.is_inference() for leaf in leaves(init_duplex_state(MODEL, 1)))


def last_text_logits(model: S2SModel, strength: float, frames: int = 8) -> torch.Tensor:
    """Of the last frame of a conversation in which nothing is said."""
    state, codes = init_duplex_state(model, 1, guided=True), words(3, frames)
    who = seat_conditions(model, 4, temperature=0.0)._replace(guidance=torch.tensor([strength]))
    told: list[torch.Tensor] = []

    def nothing(stream: int, logits: torch.Tensor) -> torch.Tensor:
        if stream == 0:
            told.append(logits)
        return torch.zeros(1, dtype=torch.int64)

    with torch.inference_mode():
        for frame in codes:
            advance(model, state, frame[None], who, everyone(1), nothing)
    return told[-1]


def test_guidance_of_one_is_the_model_and_of_zero_the_model_without_conditions() -> None:
    who, codes = seat_conditions(MODEL, 4, temperature=0.0), words(3, 8)
    for strength, rows in ((1.0, who.rows), (0.0, who.rows.dropped())):
        plain, told = init_duplex_state(MODEL, 1), init_duplex_state(MODEL, 1, guided=True)
        asked = who._replace(guidance=torch.tensor([strength]))
        for frame in codes:
            expected = duplex_step(MODEL, plain, frame[None], who._replace(rows=rows), everyone(1))
            given = duplex_step(MODEL, told, frame[None], asked, everyone(1))
            assert torch.equal(given[:, [0, *range(2, 2 + K)]], expected[:, [0, *range(2, 2 + K)]])


def test_guidance_goes_on_in_a_straight_line_from_the_one_to_the_other() -> None:
    without, conditioned, doubled = (last_text_logits(MODEL, strength) for strength in (0.0, 1.0, 2.0))
    assert not torch.allclose(without, conditioned)
    torch.testing.assert_close(doubled, 2 * conditioned - without, atol=1e-4, rtol=1e-4)


class Recorder(TorchDispatchMode):
    """Refuses what a CUDA graph cannot record: a tensor made of the host's numbers, a number asked back."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ("lift_fresh", "_local_scalar_dense", "nonzero"), f"a graph cannot record {name}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_step_can_be_recorded_as_a_cuda_graph(name: str, guided: bool) -> None:
    model = MODELS[name]
    who, state = seat_conditions(model, 1, 2), init_duplex_state(model, 2, guided=guided)
    codes = words(0, 2)
    with Recorder():
        duplex_step(model, state, codes, who, everyone(2))
