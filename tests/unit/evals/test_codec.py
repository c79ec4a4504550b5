import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from paluku.errors import EvaluationError
from paluku.evals import sound
from paluku.evals.baselines import Coded
from paluku.evals.clips import Chosen, Clip
from paluku.evals.codebooks import CodebookUse
from paluku.evals.codec import Judgement, Options, judge, judge_baseline
from paluku.evals.codec_report import About, Findings, page
from paluku.evals.judges import Judges
from tests.fakes.codec import FakeCodec

K, V, FRAMES = 4, 32, 25
ASKED = ("name", "kbps", "language", "clips", "pesq", "stoi", "si_sdr_db", "visqol", "speaker_cosine")
UNTIMED = Options(measures_speed=False)


class DelayedCodec(FakeCodec):
    """Everything comes out 100 samples late."""

    delay_samples = 100

    def decode(self, codes):
        wave = super().decode(codes)
        return torch.nn.functional.pad(wave, (self.delay_samples, 0))[..., : wave.shape[-1]]


class FastCodec(FakeCodec):
    """Of another rate than that of the judges."""

    sample_rate_hz = 24_000


def steady(codec: FakeCodec, frames: int, level: int = 8) -> np.ndarray:
    """A wave that the codec gives back as it was, every segment as loud as the others."""
    signs = torch.randint(0, 2, (1, K, frames), generator=torch.Generator().manual_seed(frames)) * 2 - 1
    return codec._wave(level * signs)[0, 0].numpy()


def clip(
    name: str, wave: np.ndarray, language: str = "te", speaker: str = "a", rate_hz: int = 16_000
) -> Clip:
    return Clip(name, wave, rate_hz, language, speaker, source="fake", licence="CC0-1.0")


def cheap() -> Judges:
    return Judges(metrics={"si_sdr_db": sound.si_sdr_db, "mel_distance": sound.mel_distance})


@pytest.mark.parametrize("kind", [FakeCodec, DelayedCodec, FastCodec])
def test_a_codec_that_loses_nothing_is_judged_so_whatever_its_delay_and_rate(kind: type[FakeCodec]) -> None:
    codec = kind(K, V)
    # Not whole frames: the codec pads, the judges see the clip alone.
    wave = steady(codec, FRAMES)[: -codec.frame_samples // 2]
    judgement = judge(codec, "ours", [clip("1", wave, rate_hz=codec.sample_rate_hz)], [K], cheap(), UNTIMED)
    for row in judgement.rows:
        assert row.si_sdr_db == pytest.approx(100.0)
        assert row.mel_distance == pytest.approx(0.0, abs=1e-6)
    assert judgement.rows[0].compression_ratio == pytest.approx(16 * codec.sample_rate_hz / 500)


def test_depths_have_rows_of_their_own_with_what_is_sent() -> None:
    codec = FakeCodec(K, V)
    judgement = judge(codec, "ours", [clip("1", steady(codec, FRAMES))], [2, K], cheap(), UNTIMED)
    shallow, deep = (row for row in judgement.rows if row.language == "all")
    assert (shallow.depth, shallow.kbps, deep.depth, deep.kbps) == (2, 0.25, 4, 0.5)  # 5 bits, 25 Hz
    assert shallow.si_sdr_db == pytest.approx(0.0, abs=1e-6)  # half of the energy is gone
    assert deep.compression_ratio == 512
    assert len(shallow.perplexity or ()) == 2
    assert len(deep.share_used or ()) == K


def test_rows_are_means_over_clips_by_language_and_speaker() -> None:
    codec = FakeCodec(K, V)
    clips = [
        clip("1", steady(codec, 25), "te", "a"),
        clip("2", steady(codec, 50), "te", "b"),
        clip("3", steady(codec, 75), "en", "c"),
    ]
    loudness = {"1": 1.0, "2": 3.0, "3": 8.0}
    numbers = iter(loudness.values())
    judges = Judges(metrics={"pesq_like": lambda *_: next(numbers), "stoi": lambda *_: 0.5})
    judges._metrics["pesq"] = judges._metrics.pop("pesq_like")
    judgement = judge(codec, "ours", clips, [K], judges, UNTIMED)
    assert [(r.language, r.clips, r.pesq, r.seconds) for r in judgement.rows] == [
        ("en", 1, 8.0, 3.0),
        ("te", 2, 2.0, 3.0),
        ("all", 3, 4.0, 6.0),
    ]
    assert [(r.language, r.speaker, r.pesq) for r in judgement.speakers] == [
        ("en", "c", 8.0),
        ("te", "a", 1.0),
        ("te", "b", 3.0),
    ]


def test_a_row_has_the_keys_asked_for_and_null_where_there_is_no_number() -> None:
    codec = FakeCodec(K, V)
    judgement = judge(codec, "ours", [clip("1", steady(codec, FRAMES))], [K], cheap(), UNTIMED)
    row = json.loads(judgement.rows[-1].model_dump_json())
    assert set(ASKED) | {"rtf_encode", "rtf_decode"} <= set(row)
    assert row["pesq"] is None
    assert row["rtf_encode"] is None


def test_a_clip_without_a_number_is_listed_and_left_out_of_the_mean() -> None:
    codec = FakeCodec(K, V)
    silent = clip("silent", np.zeros(640, np.float32))
    judgement = judge(codec, "ours", [clip("1", steady(codec, FRAMES)), silent], [K], cheap(), UNTIMED)
    assert [(one.id, one.reason) for one in judgement.ignored] == [
        ("silent", "no si_sdr_db"),
        ("silent", "no mel_distance"),
    ]
    assert judgement.ignored[0].detail == "ours 0.5 kbps: the original is silent"
    assert judgement.rows[-1].si_sdr_db == pytest.approx(100.0)
    assert judgement.rows[-1].judged == {"si_sdr_db": 1, "mel_distance": 1}
    assert judgement.rows[-1].clips == 2


def test_use_is_of_all_frames_of_all_clips_without_what_was_padded() -> None:
    codec = FakeCodec(K, V)
    clips = [clip("1", steady(codec, 10)), clip("2", steady(codec, 7)[:-100], "en")]
    judgement = judge(codec, "ours", clips, [K], cheap(), UNTIMED)
    [both] = [row for row in judgement.rows if row.language == "all"]
    assert both.frames == 17
    use = CodebookUse(K, V)
    for one in clips:
        wave = np.pad(one.wave, (0, -len(one.wave) % 640))
        use.count(codec.encode(torch.from_numpy(wave)[None, None]))
    assert both.perplexity == use.perplexity()
    assert all(row.perplexity is None for row in judgement.rows if row.language != "all")


class BrokenCodec(FakeCodec):
    """What is longer than a second comes out as no number."""

    def decode(self, codes):
        wave = super().decode(codes)
        return wave * torch.nan if wave.shape[-1] > self.sample_rate_hz else wave


def reported(judgement: Judgement, clips: list[Clip]) -> str:
    about = About("ours", "abc", "CC0-1.0", "clips", "run it", V)
    chosen = Chosen(clips, [], "d", len(clips), {})
    return page(about, chosen, Findings.of(judgement, chosen))


def test_a_decoded_wave_that_is_no_number_is_ignored_with_a_reason_and_said_in_the_table() -> None:
    codec = BrokenCodec(K, V)
    clips = [clip("1", steady(codec, 10)), clip("2", steady(codec, 2 * FRAMES))]
    judgement = judge(codec, "ours", clips, [K], cheap(), Options(keep=2, measures_speed=False))
    assert [(one.id, one.reason, one.detail) for one in judgement.ignored] == [
        ("2", f"no {metric}", "ours 0.5 kbps: the decoded wave has NaN or infinity")
        for metric in ("si_sdr_db", "mel_distance")
    ]
    assert judgement.rows[-1].si_sdr_db == pytest.approx(100.0)
    assert not judgement.waves["fake", "2"]["ours 0.5 kbps"].any()
    assert '<td class="best">100.0 (1)</td>' in reported(judgement, clips)


def test_clips_of_one_id_in_two_sources_are_heard_as_two() -> None:
    codec = FakeCodec(K, V)
    clips = [clip("1", steady(codec, 10)), replace(clip("1", steady(codec, 20)), source="another")]
    judgement = judge(codec, "ours", clips, [K], cheap(), Options(keep=2, measures_speed=False))
    found = Findings.of(judgement, Chosen(clips, [], "d", 2, {}))
    for sample, one in zip(found.samples, clips, strict=True):
        for wave in sample.takes.values():
            assert np.allclose(wave, one.wave)


def test_a_codec_that_can_be_folded_is_judged_so() -> None:
    class Trained(BrokenCodec):
        def folded(self) -> FakeCodec:
            return FakeCodec(K, V)

    wave = steady(FakeCodec(K, V), 2 * FRAMES)
    judgement = judge(Trained(K, V), "ours", [clip("1", wave)], [K], cheap(), UNTIMED)
    assert judgement.rows[-1].si_sdr_db == pytest.approx(100.0)


def test_perplexity_in_speech_leaves_pauses_out() -> None:
    codec = FakeCodec(K, V)
    speech = steady(codec, FRAMES)
    pauses = np.concatenate((speech, np.zeros(4 * len(speech), np.float32)))
    [spoken, _], [both, _] = (
        [
            row
            for row in judge(codec, "ours", [clip("1", wave)], [K, 1], cheap(), UNTIMED).rows
            if row.language == "all"
        ]
        for wave in (speech, pauses)
    )
    assert spoken.perplexity_speech == spoken.perplexity == both.perplexity_speech
    assert spoken.perplexity is not None
    assert both.perplexity is not None
    assert max(both.perplexity) < min(spoken.perplexity)
    assert "of 32, in speech" in reported(
        Judgement([both.model_copy(update={"name": "ours"})]), [clip("1", speech)]
    )


def test_use_and_perplexity_worked_by_hand() -> None:
    use = CodebookUse(3, 4)
    use.count(torch.tensor([[[0, 1, 2, 3], [0, 0, 1, 1], [2, 2, 2, 2]]]))
    assert use.share_used() == (1.0, 0.5, 0.25)
    assert use.perplexity() == pytest.approx((4.0, 2.0, 1.0))
    use.count(torch.tensor([[[0, 1], [0, 1], [2, 3]], [[2, 3], [0, 1], [2, 3]]]))
    assert use.frames == 8
    assert use.perplexity()[2] == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))


def test_kept_clips_can_be_heard_by_codec_and_rate() -> None:
    codec = FakeCodec(K, V)
    clips = [clip(str(n), steady(codec, 10 + n)) for n in range(3)]
    judgement = judge(codec, "ours", clips, [2, K], cheap(), Options(keep=2, measures_speed=False))
    assert {name: list(waves) for name, waves in judgement.waves.items()} == {
        ("fake", "0"): ["ours 0.25 kbps", "ours 0.5 kbps"],
        ("fake", "1"): ["ours 0.25 kbps", "ours 0.5 kbps"],
    }
    assert np.allclose(judgement.waves["fake", "1"]["ours 0.5 kbps"], clips[1].wave)


def test_costs_are_measured_and_stand_in_every_row() -> None:
    codec = FakeCodec(K, V)
    judgement = judge(codec, "ours", [clip("1", steady(codec, FRAMES))], [K], cheap())
    for row in judgement.rows:
        costs = (row.rtf_encode, row.rtf_decode, row.rtf_encode_batch, row.rtf_decode_batch)
        assert all(cost is not None and cost > 0 for cost in costs)


class Postman:
    """A baseline that is 37 samples late; each clip costs its length in bits, and a tenth of it in time."""

    name, kbps = "post", 1.0

    def why_absent(self) -> str | None:
        return None

    def code(self, wave: np.ndarray) -> Coded:
        seconds = len(wave) / 16_000
        return Coded(np.pad(wave, (37, 500)), kbps=seconds, encode_s=0.1 * seconds, decode_s=0.2)


def test_a_baseline_is_aligned_and_its_rate_is_that_of_all_it_sent() -> None:
    random = np.random.default_rng(0)
    clips = [
        clip(str(seconds), random.uniform(-0.5, 0.5, seconds * 16_000).astype(np.float32), language)
        for seconds, language in ((1, "te"), (3, "en"))
    ]
    judgement = judge_baseline(Postman(), clips, cheap())
    english, telugu, both = judgement.rows
    assert both.si_sdr_db == pytest.approx(100.0)
    assert (english.kbps, telugu.kbps, both.kbps) == (3.0, 1.0, 2.5)  # weighted with their length
    assert both.rtf_encode == pytest.approx(0.1)
    assert both.rtf_decode == pytest.approx(0.4 / 4)
    assert both.depth is None


def test_judgements_of_several_codecs_are_put_together() -> None:
    codec = FakeCodec(K, V)
    clips = [clip("1", steady(codec, FRAMES))]
    options = Options(keep=1, measures_speed=False)
    whole = Judgement()
    whole.add(judge(codec, "ours", clips, [K], cheap(), options))
    whole.add(judge_baseline(Postman(), clips, cheap(), options))
    assert [row.name for row in whole.rows] == ["ours", "ours", "post", "post"]
    assert list(whole.waves["fake", "1"]) == ["ours 0.5 kbps", "post 1 kbps"]


def test_nothing_to_judge_is_said() -> None:
    with pytest.raises(EvaluationError, match="no clips"):
        judge(FakeCodec(K, V), "ours", [], [K], cheap())
    with pytest.raises(EvaluationError, match="no clips"):
        judge_baseline(Postman(), [], cheap())
