import math

import numpy as np
import pytest
import torch

from paluku.errors import EvaluationError
from paluku.evals.s2s_cases import case_of
from paluku.evals.s2s_drive import TAIL_S, Parts, Sampling, Session, check, drive, session
from paluku.evals.s2s_entropy import entropies
from paluku.s2s.model import DepthConfig, S2SConfig, S2SModel
from paluku.tokens.extract import dialogue_tokens
from paluku.tokens.text import PAD, default_tokenizer
from tests.fakes.codec import FakeCodec
from tests.fakes.planted import planted, steps

K, V, FRAME = 4, 16, 640
CONFIG = S2SConfig(
    num_codebooks=K,
    codebook_size=V,
    dim=16,
    layers=1,
    heads=2,
    window=8,
    depth=DepthConfig(dim=16, layers=1, heads=2),
)


@pytest.fixture(scope="module")
def parts() -> Parts:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = S2SModel(CONFIG).eval().requires_grad_(False)
    return Parts(FakeCodec(K, V), model, default_tokenizer())


def a_session(frames: int, seed: int = 1) -> Session:
    return Session(steps(frames * 0.04, seed), "priya", "neutral", seed)


def test_what_is_said_does_not_depend_on_who_else_is_seated(parts: Parts) -> None:
    sessions = [a_session(frames, seed) for seed, frames in enumerate((7, 4, 9, 4))]
    together = drive(parts, sessions, Sampling(), seats=4)
    for seats in (1, 3):
        for one, other in zip(together, drive(parts, sessions, Sampling(), seats), strict=True):
            np.testing.assert_array_equal(one.text, other.text)
            np.testing.assert_allclose(one.wave, other.wave, atol=1e-6)
    assert [len(each.text) for each in together] == [7, 4, 9, 4]


def test_sound_stands_on_the_conversations_time(parts: Parts) -> None:
    [said] = drive(parts, [a_session(9)], Sampling(), seats=1)
    # The last frame's acoustic codes were never said.
    assert len(said.wave) == 8 * FRAME
    assert len(said.text) == len(said.user_text) == 9


def test_each_session_is_counted_and_seeds_tell_them_apart(parts: Parts) -> None:
    counted: list[int] = []
    same = [a_session(20)._replace(seed=seed) for seed in (1, 1, 2)]
    one, again, other = drive(parts, same, Sampling(), 2, lambda: counted.append(1))
    assert len(counted) == 3
    np.testing.assert_array_equal(one.text, again.text)
    assert (one.text != other.text).any()


def test_guidance_is_heeded(parts: Parts) -> None:
    plain, guided = (
        drive(parts, [a_session(20)], Sampling(guidance=guidance), 1)[0] for guidance in (1.0, 50.0)
    )
    assert len(plain.wave) == len(guided.wave)
    assert (plain.text != guided.text).any() or (plain.wave != guided.wave).any()


def test_after_the_recording_its_quiet_end_goes_on() -> None:
    case = case_of(planted())
    heard = session(case, "ravi", "happy", 3)
    assert len(heard.user) == len(case.user) + TAIL_S * case.rate_hz
    np.testing.assert_array_equal(heard.user[: len(case.user)], case.user)
    assert np.abs(heard.user[len(case.user) :]).max() <= np.abs(case.user[-4000:]).max()


def test_dialogues_of_another_rate_are_refused(parts: Parts) -> None:
    check(parts, 16_000)
    with pytest.raises(EvaluationError, match="24000 Hz, the bundle's codec takes 16000"):
        check(parts, 24_000)


def test_a_model_that_knows_nothing_has_the_entropy_of_its_tables(parts: Parts) -> None:
    model = S2SModel(CONFIG).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.zero_()
    case = case_of(planted())
    found = {each.stream: each for each in entropies(parts._replace(model=model), [case, case])}
    row = dialogue_tokens(case.row, parts.codec, parts.tokenizer)
    T, words = row["num_frames"], int((np.asarray(row["text"]) != PAD).sum())
    assert found["text"].tokens == found["codes_0"].tokens == 2 * T
    assert found["text_words"].tokens == 2 * words
    assert found["codes_1"].tokens == 2 * (T - CONFIG.acoustic_delay)
    assert found["codes_0"].perplexity == pytest.approx(V, rel=1e-5)
    for name in ("text", "text_words", "user_text", "user_text_words"):
        assert found[name].nats == pytest.approx(math.log(CONFIG.text_vocab), rel=1e-5)
    assert list(found)[:4] == ["text", "text_words", "user_text", "user_text_words"]
