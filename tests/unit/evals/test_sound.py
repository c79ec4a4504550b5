import numpy as np
import pytest

from paluku.errors import EvaluationError
from paluku.evals import sound
from tests.fakes.speech import speech_like

RATE_HZ = sound.RATE_HZ
SPEECH = speech_like(seed=0, duration_s=1.8)
SILENCE = np.zeros_like(SPEECH)


def noisy(level: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(SPEECH))
    return (SPEECH + level * noise).astype(np.float32)


def judged(metric: str, reference: np.ndarray, decoded: np.ndarray) -> float:
    for module in sound.NEEDS.get(metric, ()):
        pytest.importorskip(module)
    return sound.METRICS[metric](reference, decoded)


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        ("pesq", 4.644),  # the end of P.862.2's scale
        ("stoi", 1.0),
        ("si_sdr_db", 100.0),
        ("mel_distance", 0.0),
        ("speaker_cosine", 1.0),
    ],
)
def test_a_wave_beside_itself_has_the_best_number(metric: str, best: float) -> None:
    assert judged(metric, SPEECH, SPEECH) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("metric", ["pesq", "stoi", "visqol", "si_sdr_db", "speaker_cosine"])
def test_more_noise_is_worse_and_digital_silence_has_a_number(metric: str) -> None:
    numbers = [judged(metric, SPEECH, decoded) for decoded in (SPEECH, noisy(0.01), noisy(0.1))]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > numbers[-1]
    if metric != "speaker_cosine":  # nobody is heard in silence
        assert judged(metric, SPEECH, SILENCE) < numbers[0] / 2


def test_si_sdr_of_a_known_mixture_is_its_ratio_at_any_level() -> None:
    time = np.arange(1_600) / 1_600
    tone, other = np.sin(2 * np.pi * 50 * time), np.sin(2 * np.pi * 70 * time)  # orthogonal
    for ratio_db in (-10.0, 0.0, 20.0):
        mixture = tone + 10 ** (-ratio_db / 20) * other
        assert sound.si_sdr_db(tone, 0.3 * mixture) == pytest.approx(ratio_db, abs=1e-6)
    assert sound.si_sdr_db(tone, 0 * tone) == -100.0
    assert sound.si_sdr_db(tone, other) == -100.0


def test_half_the_amplitude_is_six_db_of_mel_distance() -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, RATE_HZ)
    assert sound.mel_distance(noise, noise / 2) == pytest.approx(20 * np.log10(2), abs=0.01)


def test_mel_distance_hears_nothing_below_its_floor() -> None:
    quiet = 1e-6 * np.random.default_rng(1).standard_normal(len(SPEECH))
    assert sound.mel_distance(SPEECH, SPEECH + quiet) < 0.2
    assert np.isclose(
        sound._log_mel_db(0.999 * np.sin(2 * np.pi * 1_000 * np.arange(4_096) / RATE_HZ)).max(), 0, atol=2
    )


@pytest.mark.parametrize("metric", list(sound.METRICS))
def test_a_silent_original_has_no_number(metric: str) -> None:
    with pytest.raises(EvaluationError, match="silent"):
        judged(metric, SILENCE, SPEECH)


@pytest.mark.parametrize("metric", list(sound.METRICS))
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_wave_that_is_not_finite_has_no_number(metric: str, broken: float) -> None:
    wave = SPEECH.copy()
    wave[100] = broken
    with pytest.raises(EvaluationError, match="the decoded wave has NaN or infinity"):
        judged(metric, SPEECH, wave)
    with pytest.raises(EvaluationError, match="the original has NaN or infinity"):
        judged(metric, wave, SPEECH)


@pytest.mark.parametrize(("metric", "samples"), [("pesq", 3_000), ("stoi", 3_000), ("visqol", 1_000)])
def test_a_short_clip_has_no_number(metric: str, samples: int) -> None:
    short = SPEECH[4_000 : 4_000 + samples]
    with pytest.raises(EvaluationError, match="no number"):
        judged(metric, short, short)


def test_a_judge_that_is_not_installed_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sound.NEEDS, "pesq", ("no_such_judge",))
    reason = sound.why_absent("pesq")
    assert reason is not None
    assert "no_such_judge" in reason
    assert "`make setup`" in reason
    assert "pip install --no-deps -r requirements-nodeps.txt" in reason
    assert "gcc and python3-dev" in reason
    with pytest.raises(EvaluationError, match="no_such_judge"):
        sound.pesq_wb(SPEECH, SPEECH)
    assert sound.why_absent("si_sdr_db") is None
