from pathlib import Path

import numpy as np
import pytest

from paluku.serving.app import cost, web_folder
from paluku.serving.config import ServingConfig
from paluku.serving.selftest import SILENCE_S, SPEECH_S, clip


@pytest.mark.parametrize(
    ("price", "sessions", "seats", "now", "when_full"),
    [(2.5, 50, 250, 0.05, 0.01), (2.5, 0, 250, None, 0.01), (2.5, 0, 0, None, None), (0, 1, 1, 0, 0)],
)
def test_the_cost_of_a_user_hour(
    price: float, sessions: int, seats: int, now: float | None, when_full: float | None
) -> None:
    config = ServingConfig(price_per_hour=price, price_currency="EUR")
    assert cost(config, {"sessions": sessions, "seats": seats}) == {
        "price_currency": "EUR",
        "cost_per_user_hour": now,
        "cost_per_user_hour_when_full": when_full,
    }


def test_without_a_price_no_cost_is_named() -> None:
    assert cost(ServingConfig(), {"sessions": 1, "seats": 1}) == {}


@pytest.mark.parametrize("rate_hz", [16_000, 24_000])
def test_the_clip_is_four_loud_syllables_and_then_nothing(rate_hz: int) -> None:
    sound = clip(rate_hz)
    assert sound.shape == (round((SPEECH_S + SILENCE_S) * rate_hz),)
    np.testing.assert_array_equal(sound, clip(rate_hz))
    speech = sound[: round(SPEECH_S * rate_hz)].astype(float) / 32767
    assert np.abs(speech).max() == pytest.approx(0.3, abs=0.001)
    assert not sound[len(speech) :].any()
    # Loudness rises above its half as often as there are syllables.
    syllable = rate_hz // 10
    loudness = np.sqrt((speech[: len(speech) // syllable * syllable].reshape(-1, syllable) ** 2).mean(axis=1))
    loud = (loudness > loudness.max() / 2).astype(int)
    assert (np.diff(loud, prepend=0) == 1).sum() == 4


def test_the_page_lies_beside_the_application() -> None:
    assert web_folder() == Path(__file__).parents[3] / "serve_apps" / "web"
