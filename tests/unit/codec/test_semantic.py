"""The first codebook's network: streams exactly, and codes by direction."""

import torch

from paluku.codec.semantic import SemanticCodebook, SemanticConfig
from paluku.codec.soundstream import SoundStreamCodec
from paluku.codec.soundstream_config import SoundStreamConfig

SMALL = SemanticConfig(dim=4, hidden=8, units=2)


def test_streaming_equals_offline() -> None:
    torch.manual_seed(0)
    book, x = SemanticCodebook(6, 16, SMALL).eval(), torch.randn(2, 6, 20)
    state, everyone = book.init_state(2), torch.ones(2, dtype=torch.bool)
    parts = [book.step(state, part, everyone) for part in x.split([1, 4, 15], dim=2)]
    assert torch.equal(torch.cat(parts, dim=1), book.codes(x))
    assert len(book.codes(x).unique()) > 4


def test_it_hears_as_far_back_as_it_says() -> None:
    torch.manual_seed(0)
    book = SemanticCodebook(6, 16, SMALL)
    x = torch.randn(1, 6, book.reach_frames + 3)
    changed = x.clone()
    changed[..., 0] += 1.0
    differs = (book(x) - book(changed)).abs().amax(dim=1)[0] > 0
    assert differs[book.reach_frames]
    assert not differs[book.reach_frames + 1 :].any()


def test_the_code_is_the_nearest_entry_whatever_the_loudness_of_what_is_said() -> None:
    book = SemanticCodebook(2, 3, SemanticConfig(dim=2, hidden=4, units=0))
    book.entries.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.5, 0.0]]))
    said = torch.tensor([[5.0, 0.1], [0.1, 0.01], [0.0, 9.0], [-3.0, 0.2]]).T[None]
    assert book._nearest(said).tolist() == [[0, 0, 1, 2]]


def test_a_codec_s_first_codes_are_what_it_says() -> None:
    torch.manual_seed(0)
    config = SoundStreamConfig(channels=4, feature_dim=8, num_codebooks=3, codebook_size=16, semantic=SMALL)
    codec, wave = SoundStreamCodec(config).eval(), torch.randn(2, 1, 640 * 6)
    assert codec.semantic is not None
    codes = codec.encode(wave)
    assert torch.equal(codes[:, 0], codec.semantic.codes(codec.latents(wave)))
    decoded, quantized = codec(wave, torch.tensor([3, 1]))
    assert quantized is not None
    assert torch.equal(quantized.codes[:, 0], codes[:, 0])
    assert decoded.shape == wave.shape
