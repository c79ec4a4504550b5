"""What a fresh run begins with."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from paluku.codec.causal import ShallowCodec
from paluku.errors import CheckpointError, ConfigError
from paluku.registry.artefact import read_card, write_model
from paluku.registry.codecs import load_codec
from paluku.registry.models import load_s2s
from paluku.s2s.model import S2SModel
from paluku.training import s2s_begin, s2s_loop
from paluku.training.ports import SilentReporter
from paluku.training.s2s_begin import CODES_DEVIATION, begin_, begin_codes_
from tests.fakes.bundle import tiny_codec
from tests.fakes.tokens import TEXT, TINY_S2S, K, V, tiny_s2s_run, write_tokens


def speakers(dim: int) -> SimpleNamespace:
    """As `registry.speakers.open_speakers` gives them."""
    voices = torch.nn.functional.normalize(
        torch.randn(4, dim, generator=torch.Generator().manual_seed(0)), dim=1
    )
    return SimpleNamespace(card=SimpleNamespace(hash="speakers-1"), reply_voices=lambda: voices)


def test_it_takes_a_model_s_weights_and_the_speakers_voices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = speakers(6)
    monkeypatch.setattr(s2s_begin, "open_speakers", lambda spec: {"default": opened}[spec])
    tokens = write_tokens(tmp_path / "tokens")
    old = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "old", steps=1), SilentReporter())
    new = s2s_loop.run(
        tiny_s2s_run(tokens, tmp_path / "new", steps=1, begin_from=str(old), speakers="default"),
        SilentReporter(),
    )
    assert read_card(new).parents["begin_from"] == read_card(old).hash
    assert read_card(new).parents["speakers"] == "speakers-1"
    model = S2SModel(TINY_S2S)
    begin_(model, str(new), "none")
    assert torch.equal(model.conditioning.voices, opened.reply_voices())


def test_a_resumed_run_needs_neither_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s2s_begin, "open_speakers", lambda _: speakers(6))
    tokens = write_tokens(tmp_path / "tokens")
    config = tiny_s2s_run(tokens, tmp_path / "out", speakers="default")
    s2s_loop.run(config, SilentReporter())
    monkeypatch.delattr(s2s_begin, "open_speakers")
    ended = s2s_loop.run(config, SilentReporter(), tmp_path / "out" / "step-000005")
    assert read_card(ended).parents["speakers"] == "speakers-1"


def test_voices_of_another_size_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s2s_begin, "open_speakers", lambda _: speakers(5))
    with pytest.raises(
        ConfigError, match=r"vectors of 5 numbers, the model takes 6; set model\.speaker_dim=5"
    ):
        begin_(S2SModel(TINY_S2S), None, "default")


def test_a_model_of_other_sizes_is_refused(tmp_path: Path) -> None:
    old = s2s_loop.run(
        tiny_s2s_run(write_tokens(tmp_path / "tokens"), tmp_path / "old", steps=1), SilentReporter()
    )
    with pytest.raises(CheckpointError, match=r"other settings than `model` \(window: 8 there, 9 here\)"):
        begin_(S2SModel(TINY_S2S.model_copy(update={"window": 9})), str(old), "none")


def test_a_model_that_hears_no_transcript_begins_one_that_does(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens")
    old = s2s_loop.run(tiny_s2s_run(tokens, tmp_path / "old", steps=1), SilentReporter())
    model = S2SModel(TINY_S2S.model_copy(update={"hears_transcript": True})).eval()
    begin_(model, str(old), "none")
    agent, user = torch.randint(0, V, (2, 1, K, 9))
    text, other, document = torch.randint(0, TEXT, (3, 1, 9))
    document.zero_()
    before = load_s2s(old)[1]
    rows = before.conditioning.rows(torch.tensor([0]), torch.tensor([0]))
    with torch.no_grad():
        was = before(agent, user, text, document, rows)
        now = model(agent, user, text, document, rows, user_text=other)
    torch.testing.assert_close(now, was)
    with pytest.raises(CheckpointError, match="hears_transcript: True there, False here"):
        begin_(S2SModel(TINY_S2S), str(saved_as(tmp_path / "new", model)), "none")


def saved_as(folder: Path, model: S2SModel) -> Path:
    folder.mkdir()
    write_model(folder, "s2s", model.config, model.state_dict(), parents={}, step=0)
    return folder


def test_what_is_nowhere_is_named() -> None:
    with pytest.raises(CheckpointError, match="/nowhere/model"):
        begin_(S2SModel(TINY_S2S), "/nowhere/model", "none")


def test_embeddings_of_codes_lie_as_the_codec_s_entries_do(tmp_path: Path) -> None:
    hash_ = tiny_codec(tmp_path / "codec")
    codec = load_codec(tmp_path / "codec")[1]
    assert isinstance(codec, ShallowCodec)
    K, V, _ = codec.quantizer.codebooks.shape
    torch.manual_seed(0)
    model = S2SModel(TINY_S2S.model_copy(update={"num_codebooks": K, "codebook_size": V, "dim": 512}))
    before = [table.clone() for table in model.code_embeddings()]
    begin_codes_(model, str(tmp_path / "codec"), hash_)
    distances = torch.cdist(codec.quantizer.codebooks, codec.quantizer.codebooks).flatten()
    for table, was in zip(model.code_embeddings(), before, strict=True):
        added = (table - was).detach()
        assert added[:, -1].abs().max() == 0, "the token for no frame is no entry"
        # Random projections keep distances but for a few percent (Johnson and Lindenstrauss 1984).
        moved = torch.cdist(added[:, :-1], added[:, :-1]).flatten()
        assert torch.corrcoef(torch.stack([distances, moved]))[0, 1] > 0.98
        deviation = added[:, :-1].var(dim=(1, 2)).sum().sqrt()
        assert float(deviation) == pytest.approx(CODES_DEVIATION, rel=1e-4)
    assert not torch.equal(*(table - was for table, was in zip(model.code_embeddings(), before, strict=True)))


def test_codes_of_other_sizes_are_refused(tmp_path: Path) -> None:
    hash_ = tiny_codec(tmp_path / "codec")
    model = S2SModel(TINY_S2S.model_copy(update={"num_codebooks": 99}))
    with pytest.raises(ConfigError, match=r"codebooks of \d+, the model takes 99 of"):
        begin_codes_(model, str(tmp_path / "codec"), hash_)


def test_codes_of_another_codec_are_refused(tmp_path: Path) -> None:
    tiny_codec(tmp_path / "codec")
    config = tiny_s2s_run(
        write_tokens(tmp_path / "tokens"), tmp_path / "out", codes_from=str(tmp_path / "codec")
    )
    with pytest.raises(CheckpointError, match=r"the tokens were made with codec codec-1; give that one"):
        s2s_loop.run(config, SilentReporter())
