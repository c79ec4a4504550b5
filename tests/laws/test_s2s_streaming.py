"""Laws of the S2S model in a stream: it is the model that was trained, and a seat is a session's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.nn.state import leaves, put_, reset_, take
from paluku.s2s.duplex import DuplexState, SeatConditions, advance, duplex_step, init_duplex_state
from paluku.s2s.model import S2SModel
from paluku.tokens.layout import undelay
from tests.fakes.s2s import CONFIG, K, V, tiny_s2s

W = CONFIG.window


def with_delay(acoustic_delay: int) -> S2SModel:
    config = CONFIG.model_copy(update={"acoustic_delay": acoustic_delay})
    model = S2SModel(config).eval().requires_grad_(False)
    model.load_state_dict(tiny_s2s().state_dict())
    return model


MODELS = {d: with_delay(d) for d in (0, 1, 2)}
MODEL = MODELS[1]


def conditions(*seeds: int, temperature: float = 1.0) -> SeatConditions:
    seed = torch.tensor(seeds)
    return SeatConditions(
        seed % 4, seed % 9, seed, torch.full((len(seeds),), temperature), torch.full((len(seeds),), 20)
    )


def words(session: int, frames: int) -> torch.Tensor:
    """A user's codes, `[T, K]`."""
    return torch.randint(0, V, (frames, K), generator=torch.Generator().manual_seed(session))


def heard_alone(session: int, frames: int, seats: int = 1, seat: int = 0) -> torch.Tensor:
    """What a session is told with nobody else in the table, `[T, 1 + K]`."""
    state, mask = init_duplex_state(MODEL, seats), torch.zeros(seats, dtype=torch.bool)
    mask[seat] = True
    who, codes = conditions(*[session] * seats), words(session, frames)
    return torch.stack(
        [duplex_step(MODEL, state, frame.expand(seats, -1), who, mask)[seat] for frame in codes]
    )


@settings(max_examples=12, deadline=None)
@given(frames=st.integers(1, 4 * W), seed=st.integers(0, 999), acoustic_delay=st.integers(0, 2))
def test_given_the_same_tokens_a_stream_says_what_the_full_sequence_says(
    frames: int, seed: int, acoustic_delay: int
) -> None:
    model, generator = MODELS[acoustic_delay], torch.Generator().manual_seed(seed)
    agent, user = torch.randint(0, V, (2, 2, K, frames), generator=generator)
    text = torch.randint(0, CONFIG.text_vocab, (2, frames), generator=generator)
    who = conditions(seed, seed + 1)
    with torch.inference_mode():
        full = model(agent, user, text, who.voice, who.style)
    own, state, everyone = model.delayed(agent), init_duplex_state(model, 2), torch.ones(2, dtype=torch.bool)
    for t in range(frames):
        said: list[torch.Tensor] = []

        def forced(
            stream: int, logits: torch.Tensor, t: int = t, said: list[torch.Tensor] = said
        ) -> torch.Tensor:
            said.append(logits)
            # Where the layout stands for no frame any token may be chosen: it must not matter.
            return text[:, t] if stream == 0 else own[:, stream - 1, t] % V

        with torch.inference_mode():
            tokens = advance(model, state, user[:, :, t], who, everyone, forced)
        assert torch.equal(tokens, torch.cat((text[:, t : t + 1], own[:, :, t]), dim=1))
        torch.testing.assert_close(said[0], full.text[:, t], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.stack(said[1:], 1), full.codes[:, :, t], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("acoustic_delay", [0, 1, 2])
def test_reply_frames_are_the_undelayed_positions(acoustic_delay: int) -> None:
    # What advance() decides, position by position, is what duplex_step() gives, frame by frame.
    model, who, codes = MODELS[acoustic_delay], conditions(5, temperature=0.0), words(5, 10)
    one, other, mask = init_duplex_state(model, 1), init_duplex_state(model, 1), torch.tensor([True])

    def likeliest(_: int, logits: torch.Tensor) -> torch.Tensor:
        return logits.argmax(dim=1)

    with torch.inference_mode():
        positions = torch.cat([advance(model, one, frame[None], who, mask, likeliest) for frame in codes])
    replies = torch.cat([duplex_step(model, other, frame[None], who, mask) for frame in codes])
    assert torch.equal(replies[:, 0], positions[:, 0])
    assert (replies[:acoustic_delay, 1:] == -1).all()
    frames = undelay(positions[:, 1:].T[None], model.config.delays)[0].T
    assert torch.equal(replies[acoustic_delay:, 1:], frames)
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


@pytest.mark.parametrize("what", ["user", "voice", "style"])
def test_it_listens(what: str) -> None:
    def told(other: bool) -> torch.Tensor:
        state: DuplexState = init_duplex_state(MODEL, 1)
        who = conditions(1, temperature=0.0)
        if other and what != "user":
            who = who._replace(**{what: torch.tensor([3])})
        codes = words(8 if other and what == "user" else 3, 10)
        return torch.cat([duplex_step(MODEL, state, f[None], who, torch.tensor([True])) for f in codes])

    assert not torch.equal(told(other=True), told(other=False))


def test_state_made_outside_inference_mode_can_be_changed_there() -> None:
    # The engine resets seats wherever it is; tensors born in inference mode would refuse.
    assert not any(leaf.is_inference() for leaf in leaves(init_duplex_state(MODEL, 1)))
