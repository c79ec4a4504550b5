"""A published Moshi from its name, file or folder."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from paluku.errors import CheckpointError
from paluku.s2s.model import S2SModel
from paluku.s2s.moshi_import import KNOWN, import_moshi
from paluku.s2s.moshi_layout import to_moshi
from tests.fakes.moshi import SIZES, moshi_tensors, transformers_moshi

SETTINGS = {
    "num_heads": 4,
    "depformer_num_heads": 2,
    "context": 50,
    "max_period": 10000,
    "delays": [0, 0, 1, 1, 1, 0, 1, 1, 1],
}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = S2SModel(SIZES)
    for name, weight in model.named_parameters():
        if name.startswith("conditioning."):
            torch.nn.init.zeros_(weight)
    return {name: x.detach().bfloat16() for name, x in model.state_dict().items()}


@pytest.fixture
def folder(weights: dict[str, Tensor], tmp_path: Path) -> Path:
    save_file(to_moshi(weights, SIZES), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def test_a_file_and_its_folder_give_configuration_and_weights(
    folder: Path, weights: dict[str, Tensor]
) -> None:
    for path in (folder, folder / "model.safetensors"):
        config, imported = import_moshi(str(path))
        assert config == SIZES
        assert imported["temporal.norm.weight"].dtype == torch.bfloat16
        assert all(torch.equal(imported[name].float(), x.float()) for name, x in weights.items())


def test_delays_are_the_settings(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(SETTINGS | {"delays": [0, 0, 2, 2, 2, 0, 3, 3, 3]}))
    config, _ = import_moshi(str(folder))
    assert (config.acoustic_delay, config.user_delay) == (2, 3)


@pytest.mark.parametrize("delays", [[0, 0, 1, 2, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 0, 1, 1, 1], [0], 3])
def test_other_delays_are_refused(folder: Path, delays: object) -> None:
    (folder / "config.json").write_text(json.dumps(SETTINGS | {"delays": delays}))
    with pytest.raises(CheckpointError, match="delays"):
        import_moshi(str(folder))


def test_a_folder_that_transformers_saved(tmp_path: Path) -> None:
    model = transformers_moshi()
    model.save_pretrained(tmp_path)
    config, imported = import_moshi(str(tmp_path))
    assert config == SIZES
    expected = moshi_tensors(model)["decoder.model.layers.1.mlp.fc1.weight"]
    assert torch.equal(imported["temporal.blocks.1.feedforward.project_in.weight"], expected)


def test_without_settings_heads_are_as_wide_as_the_published_moshi_s(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"heads.*config\.json"):
        import_moshi(str(folder))


def test_a_published_name_without_a_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALUKU_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(CheckpointError, match=r"put moshiko-pytorch-bf16\.safetensors into .* by hand"):
        import_moshi("kyutai/moshiko-pytorch-bf16")


def unreachable(*_: object, **__: object) -> None:
    raise ConnectionRefusedError("no network")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("kyutai/moshi", "known: kyutai/moshika-pytorch-bf16"), ("", r"holds no model\.safetensors")],
)
def test_what_is_not_there_is_refused(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        import_moshi(name or str(tmp_path))


def test_damaged_files_are_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        import_moshi(str(folder))
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        import_moshi(str(folder))


def test_published_weights_have_a_licence() -> None:
    assert {weights.licence for weights in KNOWN.values()} == {"CC BY 4.0, Kyutai"}
