"""EnCodec beside its library: the same codes and waves, streamed exactly, loaded from a file.

`LIBRARY` is package `encodec`'s own model with random weights in small sizes (one test: the published
ones), written to a file as its authors do and loaded from there.
"""

import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paluku.codec.encodec import PUBLISHED, EncodecCodec
from paluku.codec.encodec_config import EncodecConfig
from paluku.codec.port import Codec
from paluku.config import resolve
from paluku.errors import CheckpointError, ConfigError, one_line
from paluku.nn.state import State, leaves, put_, reset_, take
from paluku.torchaudio_cpu import prepare_torchaudio

prepare_torchaudio()
from encodec import EncodecModel  # noqa: E402
from encodec.modules.seanet import SEANetDecoder, SEANetEncoder  # noqa: E402
from encodec.quantization import ResidualVectorQuantizer  # noqa: E402

FRAME, FRAMES, SILENCE = 320, 12, 7
TOLERANCE = 1e-4
SIZES = EncodecConfig(bandwidth_kbps=3, n_filters=3, dimension=8, codebook_size=32, lstm_layers=2)
K, V = 8, 32


def library(config: EncodecConfig) -> EncodecModel:
    """Random weights; each codebook has entries of the size of what it is given to code."""
    torch.manual_seed(0)
    sizes = {"dimension": config.dimension, "n_filters": config.n_filters, "lstm": config.lstm_layers}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the library's weight_norm
        encoder = SEANetEncoder(causal=True, norm="weight_norm", **sizes)
        decoder = SEANetDecoder(causal=True, norm="weight_norm", **sizes)
    quantizer = ResidualVectorQuantizer(config.dimension, config.num_codebooks + 1, config.codebook_size)
    model = EncodecModel(encoder, decoder, quantizer, [config.bandwidth_kbps], 24_000, 1).eval()
    model.set_target_bandwidth(config.bandwidth_kbps)
    for lstm in (layer for layer in model.modules() if isinstance(layer, nn.LSTM)):
        for weight in lstm.parameters():
            weight.data.mul_(2)  # louder than torch begins, so that its memory is heard
    with torch.no_grad():
        spread = encoder(waves(4, 20)).transpose(1, 2).flatten(0, 1)
        for index, layer in enumerate(quantizer.vq.layers):
            chosen = torch.randint(len(spread), (config.codebook_size,))
            centred = spread[chosen] - (spread.mean(dim=0) if index else 0)
            layer._codebook.embed.copy_(centred * 0.7**index)
            layer._codebook.cluster_size.fill_(20.0)
    return model.requires_grad_(False)


def waves(batch: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    """Noise whose level changes from frame to frame."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(batch, 1, frames, generator=generator).repeat_interleave(FRAME, dim=-1)
    return torch.randn(batch, 1, frames * FRAME, generator=generator) * level


def preceded(wave: Tensor) -> Tensor:
    return torch.cat((torch.zeros(len(wave), 1, SILENCE * FRAME), wave), dim=-1)


LIBRARY = library(SIZES)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.th"
    torch.save(LIBRARY.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def codec(file: Path) -> EncodecCodec:
    return EncodecCodec.from_published(str(file), SIZES).requires_grad_(False)


@st.composite
def chunkings(draw: st.DrawFn) -> list[int]:
    cuts = draw(st.sets(st.integers(1, FRAMES - 1)))
    return [end - start for start, end in pairwise([0, *sorted(cuts), FRAMES])]


def stream(codec: EncodecCodec, wave: Tensor, chunks: list[int]) -> tuple[Tensor, Tensor]:
    """Codes and decoded wave."""
    everyone = torch.ones(len(wave), dtype=torch.bool)
    encoding, decoding = codec.init_encode_state(len(wave)), codec.init_decode_state(len(wave))
    parts = wave.split([n * FRAME for n in chunks], dim=-1)
    codes = [codec.encode_step(encoding, part, everyone) for part in parts]
    return torch.cat(codes, -1), torch.cat([codec.decode_step(decoding, c, everyone) for c in codes], -1)


def largest(difference: Tensor) -> float:
    return difference.abs().max().item()


def test_it_is_the_published_architecture() -> None:
    codec: Codec = EncodecCodec(EncodecConfig())
    assert (codec.sample_rate_hz, codec.frame_rate_hz, codec.frame_samples) == (24_000, 75, 320)
    assert (codec.num_codebooks, codec.codebook_size, codec.delay_samples) == (8, 1024, 0)


@pytest.mark.parametrize(("kbps", "depth"), [(1.5, 2), (3, 4), (6, 8), (12, 16), (24, 32)])
def test_a_bandwidth_is_a_number_of_codebooks(kbps: float, depth: int) -> None:
    assert EncodecConfig(bandwidth_kbps=kbps).num_codebooks == depth


@pytest.mark.parametrize("kbps", [5, 48])
def test_a_bandwidth_between_or_beyond_is_refused(kbps: float) -> None:
    with pytest.raises(
        ConfigError, match=r"it must be 1 to 32 codebooks of 0\.75 kbps: 1\.5, 3, 6, 12 or 24"
    ):
        resolve(EncodecConfig, {"bandwidth_kbps": kbps}, "codec.yaml")


def test_our_quantizer_chooses_the_librarys_codes(codec: EncodecCodec) -> None:
    latents = codec.latents(waves(3, frames=30))
    ours, theirs = (
        codec.quantizer.encode(latents),
        LIBRARY.quantizer.encode(latents, 75, SIZES.bandwidth_kbps),
    )
    assert all(len(ours[:, k].unique()) > V // 8 for k in range(K))  # equal would mean little, were all one
    assert torch.equal(ours, theirs.transpose(0, 1))
    torch.testing.assert_close(codec.quantizer.decode(ours), LIBRARY.quantizer.decode(theirs))


def test_offline_is_the_library_on_the_wave_preceded_by_silence(codec: EncodecCodec) -> None:
    wave = waves(2)
    ((theirs, _),) = LIBRARY.encode(preceded(wave))
    codes = codec.encode(wave)
    assert codec.silence_frames == SILENCE
    assert all(len(codes[:, k].unique()) > V // 8 for k in range(K))
    assert torch.equal(codes, theirs[..., SILENCE:])
    decoded = LIBRARY.decode([(theirs, None)])[..., SILENCE * FRAME :]
    assert largest(codec.decode(codes) - decoded) < TOLERANCE
    assert largest(decoded) > 100 * TOLERANCE


@pytest.mark.parametrize("depth", [1, 3])
def test_fewer_codebooks_decode_as_the_library_does(codec: EncodecCodec, depth: int) -> None:
    wave = waves(2)
    ((theirs, _),) = LIBRARY.encode(preceded(wave))
    decoded = LIBRARY.decode([(theirs[:, :depth], None)])[..., SILENCE * FRAME :]
    codes = codec.encode(wave)[:, :depth]
    assert largest(codec.decode(codes) - decoded) < TOLERANCE
    assert (
        largest(codec.decode_step(codec.init_decode_state(2), codes, torch.ones(2).bool()) - decoded) < 1e-4
    )


@settings(max_examples=8)
@given(chunks=chunkings(), batch=st.integers(1, 4), seed=st.integers(0, 99))
def test_streaming_is_the_library_offline_for_any_chunking(
    codec: EncodecCodec, chunks: list[int], batch: int, seed: int
) -> None:
    wave = waves(batch, seed=seed)
    ((theirs, _),) = LIBRARY.encode(preceded(wave))
    codes, decoded = stream(codec, wave, chunks)
    # Two entries may be equally near but for rounding, and then all codebooks of that frame differ.
    assert (codes != theirs[..., SILENCE:]).any(dim=1).sum() <= 1
    ours = torch.cat((theirs[..., :SILENCE], codes), dim=-1)
    assert largest(decoded - LIBRARY.decode([(ours, None)])[..., SILENCE * FRAME :]) < TOLERANCE


@settings(max_examples=5)
@given(mask=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=6, max_size=6))
def test_ragged_seats_each_equal_their_own_offline_run(codec: EncodecCodec, mask: list[list[bool]]) -> None:
    wave = waves(3, frames=6)
    encoding, decoding = codec.init_encode_state(3), codec.init_decode_state(3)
    heard: list[list[Tensor]] = [[], [], []]
    spoken: list[list[Tensor]] = [[], [], []]
    for frame, present in zip(wave.split(FRAME, dim=-1), mask, strict=True):
        codes = codec.encode_step(encoding, frame, torch.tensor(present))
        sound = codec.decode_step(decoding, codes, torch.tensor(present))
        for seat in (seat for seat in range(3) if present[seat]):
            heard[seat].append(frame[seat])
            spoken[seat].append(sound[seat])
    for seat in (seat for seat in range(3) if heard[seat]):
        offline = codec.decode(codec.encode(torch.cat(heard[seat], dim=-1)[None]))
        assert largest(torch.cat(spoken[seat], dim=-1) - offline[0]) < TOLERANCE


def test_nothing_before_a_change_hears_it(codec: EncodecCodec) -> None:
    wave, changed = waves(1), waves(1)
    changed[..., 5 * FRAME :] = waves(1, seed=5)[..., 5 * FRAME :]
    codes, changed_codes = codec.encode(wave), codec.encode(changed)
    assert torch.equal(codes[..., :5], changed_codes[..., :5])
    assert not torch.equal(codes[..., 5], changed_codes[..., 5])


def test_a_fresh_state_is_zero_and_a_reset_seat_equals_a_fresh_one(codec: EncodecCodec) -> None:
    wave, everyone = waves(2, frames=3), torch.ones(2, dtype=torch.bool)
    state = codec.init_encode_state(2)
    assert not any(leaf.any() for leaf in leaves(state))
    first = codec.encode_step(state, wave, everyone)
    second = codec.encode_step(state, wave, everyone)
    assert not torch.equal(second, first)
    reset_(state, torch.tensor([False, True]))
    third = codec.encode_step(state, wave, everyone)
    assert torch.equal(third[1], first[1])
    assert not torch.equal(third[0], first[0])


def test_a_seat_moves_with_its_state(codec: EncodecCodec) -> None:
    wave = waves(1, frames=8)

    def half(state: State, part: Tensor, seat: int) -> Tensor:
        codes = codec.encode_step(state, part.expand(3, -1, -1), torch.arange(3) == seat)
        return codes[seat]

    before, after = codec.init_encode_state(3), codec.init_encode_state(3)
    codes = [half(before, wave[..., : 3 * FRAME], 0)]
    put_(after, 2, take(before, 0))
    codes.append(half(after, wave[..., 3 * FRAME :], 2))
    assert torch.equal(torch.cat(codes, dim=-1), codec.encode(wave)[0])


def test_after_its_reach_a_state_has_forgotten_what_came_before(codec: EncodecCodec) -> None:
    alike = waves(1, frames=codec.encode_reach_frames, seed=9)
    sounds = []
    for seed in (1, 2):
        wave = torch.cat((waves(1, seed=seed), alike, waves(1, frames=3, seed=8)), dim=-1)
        sounds.append(codec.encode(wave)[..., -3:])
    assert torch.equal(*sounds)


def test_the_published_sizes_load_and_stream_as_the_library_says(tmp_path: Path) -> None:
    config = EncodecConfig(bandwidth_kbps=1.5)
    reference = library(config)
    torch.save(reference.state_dict(), tmp_path / "full.th")
    codec = EncodecCodec.from_published(str(tmp_path / "full.th"), config)
    wave = waves(1, frames=4)
    with torch.no_grad():
        ((theirs, _),) = reference.encode(preceded(wave))
        decoded = reference.decode([(theirs, None)])[..., SILENCE * FRAME :]
    codes, streamed = stream(codec, wave, [1, 3])
    assert codes.shape == (1, 2, 4)
    assert torch.equal(codes, theirs[..., SILENCE:])
    assert largest(streamed - decoded) < TOLERANCE


def test_weight_norm_is_kept_for_fine_tuning_and_multiplied_out_for_serving(
    codec: EncodecCodec, file: Path
) -> None:
    tuned = EncodecCodec.from_published(str(file), SIZES.model_copy(update={"weight_norm": True}))
    folded, wave = tuned.folded(), waves(1)
    assert not tuned.training
    assert len(list(tuned.parameters())) > len(list(folded.parameters()))
    assert folded.config == codec.config
    for each in (tuned, folded):
        torch.testing.assert_close(each.latents(wave).detach(), codec.latents(wave), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("weight_norm", [True, False])
def test_training_decodes_what_serving_decodes_and_reaches_every_weight(weight_norm: bool) -> None:
    codec = EncodecCodec.seeded(0, SIZES.model_copy(update={"weight_norm": weight_norm})).train()
    wave = waves(2)
    decoded, quantized = codec(wave, torch.tensor([K, 3]))
    codes = codec.encode(wave)
    assert largest(decoded[:1].detach() - codec.decode(codes[:1])) < TOLERANCE
    assert largest(decoded[1:].detach() - codec.decode(codes[1:, :3])) < TOLERANCE
    assert quantized.codes.shape == (2, K, FRAMES)  # the silence before is nothing to learn from
    ((decoded - wave).square().mean() + quantized.commitment).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in codec.parameters())


def test_a_changed_weight_is_heard_from_a_streams_first_frame() -> None:
    codec, wave = EncodecCodec.seeded(1, SIZES), waves(1, frames=3)
    before = stream(codec, wave, [3])[1]
    codec.train()
    with torch.no_grad():
        for weight in codec.decoder.parameters():
            weight.mul_(1.3)
    for mode in (True, False):
        codec.train(mode)
        codes, decoded = stream(codec, wave, [1, 2])
        assert largest(decoded - codec.decode(codes)) < TOLERANCE
        assert largest(decoded - before) > 10 * TOLERANCE


def test_learning_takes_up_the_published_codebooks_where_they_are(file: Path) -> None:
    codec = EncodecCodec.from_published(str(file), SIZES).train()
    before = codec.quantizer.codebooks.clone()
    _, quantized = codec(waves(2), torch.tensor([K, K]))
    codec.quantizer.learn_(quantized)
    moved = (codec.quantizer.codebooks - before).norm(dim=-1) / before.norm(dim=-1)
    assert 0 < moved.max() < 0.5


def refusal(path: Path, state: object, config: EncodecConfig = SIZES) -> str:
    torch.save(state, path)
    with pytest.raises(CheckpointError) as caught:
        EncodecCodec.from_published(str(path), config)
    assert str(path) in one_line(caught.value)
    assert "\n" not in str(caught.value)
    return one_line(caught.value)


def test_a_file_of_another_architecture_is_one_clear_line(tmp_path: Path) -> None:
    path, state = tmp_path / "other.th", LIBRARY.state_dict()
    wider = SIZES.model_copy(update={"n_filters": 4})
    assert "its decoder.model.0.conv.conv.bias is [48], not [64]" in refusal(path, state, wider)
    deeper = SIZES.model_copy(update={"lstm_layers": 3})
    assert "it lacks decoder.model.1.lstm.bias_hh_l2" in refusal(path, state, deeper)
    shallower = SIZES.model_copy(update={"lstm_layers": 1})
    assert "it has decoder.model.1.lstm.bias_hh_l1" in refusal(path, state, shallower)
    more = SIZES.model_copy(update={"bandwidth_kbps": 6.0})
    assert "it lacks quantizer.vq.layers.10._codebook.cluster_size" in refusal(path, state, more)
    assert "no mapping of names to tensors" in refusal(path, {"best_state": state})
    assert "no mapping of names to tensors" in refusal(path, [1, 2])


def test_a_cut_or_missing_file_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALUKU_WEIGHTS", str(tmp_path))
    path = tmp_path / PUBLISHED["encodec_24khz"].file
    with pytest.raises(CheckpointError, match=r"nowhere\.th is neither a file nor .*encodec_24khz"):
        EncodecCodec.from_published("nowhere.th", SIZES)
    path.write_bytes(b"half a file")
    for asked in ("encodec_24khz", str(path)):
        with pytest.raises(
            CheckpointError, match=r"has sha256 .*, encodec_24khz has d7cc33bc\.\.\.: it is damaged"
        ):
            EncodecCodec.from_published(asked, SIZES)
    cut = path.rename(tmp_path / "cut.th")
    with pytest.raises(CheckpointError, match=r"cut\.th holds no weights that can be read"):
        EncodecCodec.from_published(str(cut), SIZES)
