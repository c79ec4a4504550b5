"""Mimi's published files, of either layout: read, or refused in one line."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from paluku.codec.mimi import KNOWN, MimiCodec
from paluku.errors import CheckpointError
from tests.fakes.mimi_file import ACOUSTIC, SIZES, as_moshi, published_tensors

TENSORS = published_tensors()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    return path


def test_a_file_s_first_codebooks_can_be_used_alone(published: Path) -> None:
    full = MimiCodec.from_published(str(published), SIZES)
    wave = torch.randn(1, 1, 1920 * 4, generator=torch.Generator().manual_seed(0))
    codes = full.encode(wave)
    for depth in (1, 3):
        few = MimiCodec.from_published(str(published), SIZES.model_copy(update={"num_codebooks": depth}))
        assert torch.equal(few.encode(wave), codes[:, :depth])
        torch.testing.assert_close(few.decode(codes[:, :depth]), full.decode(codes[:, :depth]))


def test_moshi_s_file_of_the_same_weights_gives_the_same_codec(published: Path, tmp_path: Path) -> None:
    save_file(as_moshi(TENSORS), tmp_path / "tokenizer.safetensors")
    theirs = MimiCodec.from_published(str(tmp_path / "tokenizer.safetensors"), SIZES).state_dict()
    ours = MimiCodec.from_published(str(published), SIZES).state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


def changed(name: str, tensor: Tensor | None) -> dict[str, Tensor]:
    """The published tensors with one replaced, added, or (`None`) removed."""
    tensors = dict(TENSORS)
    tensors.pop(name, None)
    return tensors if tensor is None else tensors | {name: tensor}


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({"encoder.weight": torch.zeros(2)}, "does not hold Mimi's weights .* give kyutai/mimi's"),
        (
            changed("decoder.layers.3.block.1.conv.bias", None),
            r"lacks decoder\.layers\.3\.block\.1\.conv\.bias",
        ),
        (changed(f"{ACOUSTIC}.layers.2.codebook.embed_sum", None), r"lacks .*layers\.2\.codebook\.embed_sum"),
        (
            changed("downsample.conv.weight", torch.zeros(16, 16, 3)),
            r"is \[16, 16, 3\], Mimi's is \[16, 16, 4\]",
        ),
        (changed("encoder.layers.15.conv.weight", torch.zeros(1)), r"holds 1 tensors that Mimi has not"),
        (
            changed("encoder_transformer.layers.2.self_attn.q_proj.weight", torch.zeros(16, 16)),
            r"Mimi has not \(encoder_transformer\.layers\.2\.self_attn\.q_proj\.weight",
        ),
        (
            as_moshi(TENSORS)
            | {"decoder_transformer.transformer.layers.1.self_attn.in_proj_weight": torch.ones(10, 7)},
            r"decoder_transformer\.layers\.1\.self_attn\.q_proj\.weight is \[4, 7\]",
        ),
    ],
)
def test_a_file_of_another_architecture_is_refused(
    tensors: dict[str, Tensor], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=complaint):
        MimiCodec.from_published(str(path), SIZES)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_a_file_that_is_cut_off_is_refused(kept: int, published: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(published.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors cannot be read as safetensors"):
        MimiCodec.from_published(str(path), SIZES)


def test_a_file_of_more_or_larger_codebooks_is_asked_for_in_vain(published: Path) -> None:
    with pytest.raises(CheckpointError, match=r"lacks .*acoustic.*layers\.4\.codebook\.embed_sum"):
        MimiCodec.from_published(str(published), SIZES.model_copy(update={"num_codebooks": 6}))
    with pytest.raises(CheckpointError, match=r"is \[32, 8\], Mimi's is \[64, 8\]"):
        MimiCodec.from_published(str(published), SIZES.model_copy(update={"codebook_size": 64}))


def test_a_name_that_is_not_known_is_refused() -> None:
    with pytest.raises(CheckpointError, match="mimi"):
        MimiCodec.from_published("mini")


def test_another_file_under_the_published_name_is_refused(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALUKU_WEIGHTS", str(tmp_path))
    save_file(load_file(published), tmp_path / KNOWN["mimi"].file)
    with pytest.raises(CheckpointError, match="384644900"):
        MimiCodec.from_published("mimi")


def test_a_half_precision_file_is_read_as_single(tmp_path: Path) -> None:
    save_file({name: tensor.bfloat16() for name, tensor in TENSORS.items()}, tmp_path / "half.safetensors")
    codec = MimiCodec.from_published(str(tmp_path / "half.safetensors"), SIZES)
    assert {tensor.dtype for tensor in codec.state_dict().values()} == {torch.float32}
