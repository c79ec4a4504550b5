"""What goes to the Hub with a bundle: made from the models' own cards, refused where they say too little."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from pydantic import ValidationError

from paluku.errors import CheckpointError, ConfigError
from paluku.registry.bundle import read_bundle
from paluku.registry.publication import PublishConfig, publication
from tests.fakes.bundle import tiny_bundle

S2S_CARD = """---
license: cc-by-sa-4.0
language: [te]
tags: [telugu]
---
# The S2S model
See [the codec](../codec/README.md) and [Moshi](https://arxiv.org/abs/2410.00037).

## Trained on
| source | hours | licence |
|---|---|---|
| Turns | 9.7 | CC0 |

## Measured
| what | how much |
|---|---|
| gap | 164 ms |
"""
CODEC_CARD = """---
license: cc-by-sa-4.0
language: [te, ml]
tags: [codec]
base_model: google/lyra
---
# The codec
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tiny_bundle(tmp_path)
    (folder / "s2s" / "README.md").write_text(S2S_CARD, encoding="utf-8")
    (folder / "codec" / "README.md").write_text(CODEC_CARD, encoding="utf-8")
    return folder


def config(**changes: object) -> PublishConfig:
    return PublishConfig.model_validate({"repository": "someone/te-talk", **changes})


def text_of(files: dict[str, Path | bytes], name: str) -> str:
    content = files[name]
    assert isinstance(content, bytes)
    return content.decode()


def test_the_card_says_what_the_models_say(bundle: Path) -> None:
    text = text_of(publication(bundle, config()), "README.md")
    data = ModelCard(text).data.to_dict()
    assert data == {
        "language": ["te"],
        "license": "cc-by-sa-4.0",
        "library_name": "paluku",
        "pipeline_tag": "audio-to-audio",
        "tags": ["codec", "full-duplex", "speech-to-speech", "telugu"],
        "base_model": ["google/lyra"],
    }
    assert "## The S2S model\nSee the codec and [Moshi](https://arxiv.org/abs/2410.00037)." in text
    assert "--bundle hub:someone/te-talk@REVISION" in text


def test_the_notice_names_sources_and_beginnings(bundle: Path) -> None:
    notice = text_of(publication(bundle, config()), "NOTICE")
    assert "| Turns | 9.7 | CC0 |" in notice
    assert "It is made of google/lyra." in notice
    assert "164 ms" not in notice


def test_the_licence_is_where_it_can_be_read(bundle: Path, tmp_path: Path) -> None:
    assert "https://spdx.org/licenses/CC-BY-SA-4.0.html" in text_of(publication(bundle, config()), "LICENSE")
    own = tmp_path / "LICENCE.txt"
    own.write_text("Ours.")
    files = publication(bundle, config(licence="other", licence_file=own))
    assert files["LICENSE"] == own
    assert ModelCard(text_of(files, "README.md")).data.license == "other"
    with pytest.raises(ConfigError, match="other is no SPDX licence; give its text"):
        publication(bundle, config(licence="other"))


@pytest.mark.parametrize("card", [None, "# No metadata", "---\nlanguage: te\n---\n# No licence"])
def test_a_model_that_does_not_state_its_licence_is_refused(bundle: Path, card: str | None) -> None:
    readme = bundle / "codec" / "README.md"
    readme.unlink()
    if card is not None:
        readme.write_text(card)
    with pytest.raises(CheckpointError, match=r"codec does not state its licence; give it a README\.md"):
        publication(bundle, config())


def test_licences_that_differ_are_not_guessed(bundle: Path) -> None:
    (bundle / "codec" / "README.md").write_text(CODEC_CARD.replace("cc-by-sa-4.0", "apache-2.0"))
    with pytest.raises(ConfigError, match=r"s2s cc-by-sa-4\.0, codec apache-2\.0.*licence=NAME"):
        publication(bundle, config())
    text = text_of(publication(bundle, config(licence="CC-BY-SA-4.0")), "README.md")
    assert ModelCard(text).data.license == "cc-by-sa-4.0"


def test_numbers_become_results(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    hashes = {"s2s": read_bundle(bundle).s2s}
    numbers = {"reply_accuracy": 0.25, "cer": None, "reference": {"cer": 0.1}}
    told = {"hashes": hashes, "data_hash": "6e78", "numbers": numbers}
    path.write_text(json.dumps(told))
    results = ModelCard(text_of(publication(bundle, config(numbers=path)), "README.md")).data.eval_results
    assert results is not None
    assert [(one.metric_type, one.metric_value) for one in results] == [("reply_accuracy", 0.25)]
    assert results[0].dataset_name == "held-out dialogues 6e78"
    path.write_text(json.dumps(told | {"hashes": {"s2s": "another"}}))
    with pytest.raises(ConfigError, match="is of S2S model another, the bundle holds"):
        publication(bundle, config(numbers=path))
    path.write_text("[]")
    with pytest.raises(ConfigError, match=r"is not what jobs/evaluate_s2s\.py writes"):
        publication(bundle, config(numbers=path))


def test_samples_go_along_and_are_listed(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    with pytest.raises(ConfigError, match="holds no sound files"):
        publication(bundle, config(samples=folder))
    for name in ("b.flac", "a.wav", "notes.txt"):
        (folder / name).write_bytes(b"x")
    files = publication(bundle, config(samples=folder))
    assert [name for name in files if name.startswith("samples/")] == ["samples/a.wav", "samples/b.flac"]
    assert "- [samples/a.wav](samples/a.wav)\n- [samples/b.flac]" in text_of(files, "README.md")


def test_what_else_lies_in_a_models_folder_stays_at_home(bundle: Path) -> None:
    (bundle / "s2s" / "training.pt").write_bytes(b"optimiser")
    assert not [name for name in publication(bundle, config()) if "training" in name]


@pytest.mark.parametrize("repository", ["te-talk", "https://huggingface.co/someone/te-talk", "a/b c"])
def test_a_name_that_is_not_owner_and_name_is_refused(repository: str) -> None:
    with pytest.raises(ValidationError, match="repository"):
        config(repository=repository)
