"""Every configuration that is shipped is one, and has the size it says."""

from pathlib import Path

import pytest
import torch

from paluku.config import load
from paluku.errors import ConfigError
from paluku.s2s.model import HearingConfig, S2SConfig, S2SModel
from paluku.s2s.moshi_layout import moshi_7b
from paluku.training.s2s_config import S2STrainingConfig

CONFIGS = Path(__file__).parents[3] / "jobs/configs"
GIVEN = ["tokens=/tokens", "out=/out"]
HEARD = "begin_from=/heard"  # a model with hearing does not begin from nothing


def shipped(name: str, *changes: str) -> S2STrainingConfig:
    return load(S2STrainingConfig, CONFIGS / f"{name}.yaml", [*GIVEN, *changes])


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("train_s2s.demo", 2.2),
        ("train_s2s", 14.0),
        ("train_s2s.gpu", 14.0),
        ("train_s2s.base", 307),
        ("train_s2s.large", 1000),
        ("train_s2s.moshi_7b", 7700),
    ],
)
def test_it_has_the_size_it_says(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = S2SModel(shipped(name, HEARD).model)
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


def test_the_shipped_model_is_the_default_one_that_hears_wherever_it_is_trained() -> None:
    assert (
        shipped("train_s2s", HEARD).model
        == shipped("train_s2s.gpu", HEARD).model
        == S2SConfig(hearing=HearingConfig(gathers=75), user_text=False)
    )
    assert shipped("train_s2s.moshi_7b").model == moshi_7b()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("begin_from=weights", "begin_from: 'weights' must be an absolute path"),
        ("speakers=mine", "speakers: 'mine' must be an absolute path"),
        ("codes_from=/models/codec", "begin_from brings its own embeddings of codes"),
        ("row_frames=300", "row_frames is 300, max_frames 400: a crop has no room"),
        ("model.hearing={}", "a model with hearing needs begin_from: a model whose hearing has learned"),
    ],
)
def test_what_cannot_work_is_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shipped("train_s2s.demo", *(["begin_from=/models/s2s"] if "codes_from" in change else []), change)


def test_what_workers_can_find_is_taken() -> None:
    config = shipped("train_s2s.moshi_7b", "begin_from=kyutai/moshiko-pytorch-bf16", "speakers=none")
    assert (config.begin_from, config.speakers) == ("kyutai/moshiko-pytorch-bf16", "none")
    assert shipped("train_s2s.demo", "begin_from=/models/s2s").begin_from == "/models/s2s"
