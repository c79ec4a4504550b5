import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from paluku import audio
from paluku.corpus.media import MEDIA_SUFFIXES, Decoded, decode, duration_s
from paluku.corpus.preparation.quality import UnusableError
from paluku.corpus.storage import Place
from paluku.corpus.utterance import Utterance
from paluku.errors import StorageError

RATE_HZ = 48_000


def tones(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A tone that climbs by an octave a second from 200 Hz, so that every place is told by its pitch."""
    place_s = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * 200 * (2**place_s - 1) / np.log(2)
    return (0.5 * np.sin(phase)).astype(np.float32)


def utterance(path: Path, start_s: float = 0.0, end_s: float | None = None) -> Utterance:
    return Utterance(id="u", path=str(path), start_s=start_s, end_s=end_s, speaker="s", source="x")


def video(
    path: Path, codec: str, waves: np.ndarray, rate_hz: int = RATE_HZ, *, pictures: bool = True
) -> None:
    """A file with a moving picture and sound `[C, S]`."""
    with av.open(str(path), "w") as container:
        if pictures:
            picture = container.add_stream("mpeg4" if path.suffix != ".webm" else "libvpx", rate=Fraction(10))
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        layout = "mono" if len(waves) == 1 else "stereo"
        sound = container.add_stream(codec, rate=rate_hz, layout=layout)
        if pictures:
            for number in range(int(10 * waves.shape[1] / rate_hz)):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * number % 255, np.uint8), "rgb24")
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waves), "fltp", layout)
        frame.rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        fifo = av.AudioFifo()
        fifo.write(frame)
        for part in fifo.read_many(sound.codec_context.frame_size or 1024, partial=True):
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))


def correlation(found: np.ndarray, wanted: np.ndarray) -> float:
    length = min(len(found), len(wanted))
    return float(np.corrcoef(found[:length], wanted[:length])[0, 1])


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(48_000, 16_000), (22_050, 16_000), (8_000, 24_000), (16_000, 16_000)]
)
def test_decoding_in_blocks_equals_decoding_at_once(tmp_path: Path, from_hz: int, to_hz: int) -> None:
    wave = np.stack([tones(5.3, from_hz), 0.3 * tones(5.3, from_hz)[::-1]], axis=1)
    soundfile.write(tmp_path / "a.wav", wave, from_hz, subtype="FLOAT")
    decoded = decode(utterance(tmp_path / "a.wav"), to_hz)
    whole = audio.read_mono(tmp_path / "a.wav", to_hz)
    assert (decoded.source_rate_hz, decoded.channels) == (from_hz, 2)
    assert decoded.wave.dtype == np.float32
    assert len(decoded.wave) == len(whole)
    np.testing.assert_allclose(decoded.wave, whole, atol=2e-5)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.opus"])
def test_soundfile_reads_compressed_audio(tmp_path: Path, name: str) -> None:
    form = {"container": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    soundfile.write(
        tmp_path / name, tones(2.0), RATE_HZ, format=form.get("container"), subtype=form.get("subtype")
    )
    decoded = decode(utterance(tmp_path / name), RATE_HZ).wave  # two blocks: their seam must not be heard
    np.testing.assert_allclose(decoded, audio.read_mono(tmp_path / name, RATE_HZ), atol=1e-5)
    assert correlation(decode(utterance(tmp_path / name), 16_000).wave, tones(2.0, 16_000)) > 0.99


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mp4", "aac"), ("v.webm", "libopus"), ("v.mkv", "aac"), ("v.mov", "aac"), ("v.m4a", "aac")],
)
def test_video_and_other_containers_give_their_sound(tmp_path: Path, name: str, codec: str) -> None:
    video(tmp_path / name, codec, np.stack([tones(3.0), tones(3.0)]), pictures=name != "v.m4a")
    decoded = decode(utterance(tmp_path / name), 16_000)
    assert (decoded.source_rate_hz, decoded.channels) == (RATE_HZ, 2)
    assert len(decoded.wave) / 16_000 == pytest.approx(3.0, abs=0.06)
    assert correlation(decoded.wave, tones(3.0, 16_000)) > 0.98
    assert duration_s(str(tmp_path / name)) == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mp4", "aac"), ("v.webm", "libopus"), ("v.mkv", "aac"), ("a.wav", ""), ("a.mp3", "")],
)
def test_a_stretch_is_what_the_whole_file_has_there(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    if codec:
        video(path, codec, tones(4.0)[None])
    else:
        soundfile.write(path, tones(4.0), RATE_HZ)
    whole = decode(utterance(path), RATE_HZ).wave
    part = decode(utterance(path, start_s=2.0, end_s=3.0), RATE_HZ).wave
    assert len(part) == RATE_HZ
    wanted = whole[2 * RATE_HZ : 3 * RATE_HZ]
    # Matroska's stamps are whole milliseconds.
    shifts = range(-RATE_HZ // 1000, RATE_HZ // 1000 + 1)
    assert max(correlation(part[480:-480], np.roll(wanted, shift)[480:-480]) for shift in shifts) > 0.999
    tail = decode(utterance(path, start_s=3.5), RATE_HZ).wave
    assert (
        len(tail) == len(whole) - round(3.5 * RATE_HZ) or abs(len(tail) - len(whole) + 3.5 * RATE_HZ) < 1200
    )


def test_a_sound_file_of_the_wrong_name_is_read_all_the_same(tmp_path: Path) -> None:
    video(tmp_path / "v.m4a", "aac", tones(1.0)[None], pictures=False)
    (tmp_path / "v.m4a").rename(tmp_path / "called.mp3")
    assert correlation(decode(utterance(tmp_path / "called.mp3"), 16_000).wave, tones(1.0, 16_000)) > 0.98


def test_full_scale_is_counted_in_any_channel(tmp_path: Path) -> None:
    wave = np.zeros((1000, 2), np.float32)
    wave[:100, 0], wave[50:200, 1] = 1.0, -1.0
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    assert decode(utterance(tmp_path / "a.wav"), 16_000).clipped_share == pytest.approx(0.2)


def decoding(path: Path, **more: float) -> Decoded:
    limit = {"max_s": more.pop("max_s")} if "max_s" in more else {}
    return decode(utterance(path, **more), 16_000, **limit)


def test_each_trouble_has_its_reason(tmp_path: Path) -> None:
    def reason(path: Path, **more: float) -> str:
        with pytest.raises(UnusableError) as refused:
            decoding(path, **more)
        return refused.value.reason

    good, silent = tmp_path / "good.wav", tmp_path / "empty.wav"
    soundfile.write(good, tones(2.0), RATE_HZ)
    soundfile.write(silent, np.zeros(0, np.float32), RATE_HZ)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "a_folder.wav").mkdir()
    nan = np.full(16_000, np.nan, np.float32)
    soundfile.write(tmp_path / "nan.wav", nan, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "slow.wav", tones(1.0, 4000), 4000)
    soundfile.write(tmp_path / "cut.flac", np.random.default_rng(0).uniform(-1, 1, 96_000), RATE_HZ)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "cut.flac").read_bytes()[:100_000])
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        picture = container.add_stream("mpeg4", rate=Fraction(10))
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux(picture.encode(None))
    assert reason(tmp_path / "none.wav") == "missing"
    assert reason(tmp_path / "gone" / "none.mp4") == "missing"
    broken = ("broken.wav", "broken.mp4", "a_folder.wav", "nan.wav", "slow.wav", "cut.flac")
    assert {name: reason(tmp_path / name) for name in broken} == dict.fromkeys(broken, "broken")
    for suffix in sorted(MEDIA_SUFFIXES):
        (tmp_path / f"nothing{suffix}").touch()
        assert reason(tmp_path / f"nothing{suffix}") == "broken", suffix
    assert reason(tmp_path / "mute.mp4") == "no_sound"
    assert reason(silent) == "no_sound"
    assert reason(good, start_s=5.0) == "no_sound"
    assert reason(good, max_s=1.0) == "too_long"
    assert len(decoding(good, start_s=1.5, max_s=1.0).wave) == 8000


def test_a_file_is_opened_by_uri_too(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a b.wav", tones(1.0, 16_000), 16_000)
    video(tmp_path / "v.mkv", "aac", tones(1.0)[None])
    wave = decode(
        Utterance(id="u", path=f"file://{tmp_path}/a%20b.wav", speaker="s", source="x"), 16_000
    ).wave
    assert correlation(wave, tones(1.0, 16_000)) > 0.999
    assert len(
        decode(Utterance(id="u", path=f"file://{tmp_path}/v.mkv", speaker="s", source="x"), 16_000).wave
    )
    with pytest.raises(UnusableError, match="missing"):
        decode(Utterance(id="u", path=f"file://{tmp_path}/none.mkv", speaker="s", source="x"), 16_000)


def test_a_store_that_breaks_is_not_the_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("connection reset")

    monkeypatch.setattr(Place, "open_input", lambda place, name: Breaking())
    with pytest.raises(StorageError, match=r"a\.wav cannot be read \(connection reset\)"):
        decode(Utterance(id="u", path=f"file://{tmp_path}/a.wav", speaker="s", source="x"), 16_000)


def test_headers_that_cannot_be_read_count_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "broken.mp4").write_bytes(b"x")
    for path in (
        tmp_path / "broken.wav",
        tmp_path / "broken.mp4",
        tmp_path / "none.wav",
        "s3://bucket/a.wav",
    ):
        assert duration_s(str(path)) == 0


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("a.mp3", ""), ("a.ogg", ""), ("a.opus", "")),
        *(("v.mkv", "aac"), ("v.webm", "libopus"), ("v.mka", "libopus")),
    ],
)
def test_a_file_that_was_cut_off_is_broken(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    if codec:
        video(path, codec, tones(10.0)[None], pictures=path.suffix != ".mka")
    else:
        form = {"container": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
        soundfile.write(path, tones(10.0), RATE_HZ, format=form.get("container"), subtype=form.get("subtype"))
    assert len(decoding(path).wave) == pytest.approx(160_000, abs=1600)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])
    with pytest.raises(UnusableError, match="cut off") as refused:
        decoding(path)
    assert refused.value.reason == "broken"
    if path.suffix not in (".ogg", ".opus"):
        assert len(decoding(path, start_s=1.0, end_s=2.0).wave) == 16_000, "a stretch before the cut"


def test_an_ogg_with_a_hole_is_broken(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.ogg", tones(10.0), RATE_HZ)
    data = bytearray((tmp_path / "a.ogg").read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 5] = bytes(len(data) // 5)
    (tmp_path / "a.ogg").write_bytes(data)
    with pytest.raises(UnusableError, match=r"broken: .* could be decoded of 10\.00 s"):
        decoding(tmp_path / "a.ogg")


def test_an_mp3_that_counts_no_frames_is_as_long_as_it_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", tones(10.0), RATE_HZ)
    data = (tmp_path / "a.mp3").read_bytes()
    for mark in (b"Xing", b"Info"):
        data = data.replace(mark, bytes(4), 1)
    (tmp_path / "a.mp3").write_bytes(data[: len(data) * 2 // 5])
    assert len(decoding(tmp_path / "a.mp3").wave) > 16_000


def test_sound_that_ends_before_the_picture_is_whole(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        picture = container.add_stream("mpeg4", rate=Fraction(10))
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for _ in range(80):
            black = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            container.mux(picture.encode(black))
        container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ones((1, 32_000), np.int16), "s16", "mono")
        frame.rate, frame.pts = 16_000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert len(decoding(tmp_path / "v.mkv").wave) == 32_000


def test_tags_that_are_not_utf8_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "cafXYZ"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ones((1, 16_000), np.int16), "s16", "mono")
        frame.rate, frame.pts = 16_000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    path.write_bytes(path.read_bytes().replace(b"cafXYZ", b"caf\xe9YZ"))
    assert duration_s(str(path)) == pytest.approx(1.0, abs=0.01)
    assert len(decoding(path).wave) == 16_000
