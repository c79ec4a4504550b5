"""What goes to the Hugging Face Hub with a bundle: its files, a model card, LICENSE, NOTICE, samples.

All of it is made from what the models' own README.md say: licence, languages, tags, where they come from.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import Field

from paluku.config import AbsolutePath, Config
from paluku.corpus.media import MEDIA_SUFFIXES
from paluku.errors import CheckpointError, ConfigError
from paluku.registry.artefact import CARD, CONFIG, WEIGHTS, read_card
from paluku.registry.bundle import BUNDLE, CODEC, S2S, SPEAKERS, TOKENIZER, BundleCard, check_bundle

README, LICENSE, NOTICE, SAMPLES = "README.md", "LICENSE", "NOTICE", "samples"
MODEL_FILES = (CARD, CONFIG, WEIGHTS, README)
LIBRARY, TASK = "paluku", "audio-to-audio"
# A table that says under which licence something came is an attribution: it goes into NOTICE.
SECTION = re.compile(r"^## .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
LICENCE_TABLE = re.compile(r"^\|.*\blicence\b.*\|", re.MULTILINE)
INTRODUCTION = (
    "A speech-to-speech model, full duplex and streaming, with the codec whose codes it speaks: a bundle of "
    "the platform Paluku."
)
REVISION = f"REVISION is a commit of this repository. Licences and whom to name: {LICENSE}, {NOTICE}."
# Beside the models, not on the Hub: only the words of such a link are kept.
LOCAL_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")


class PublishConfig(Config):
    """Settings of `jobs/publish.py`."""

    bundle: str = "default"  # a bundle's folder, or what is shipped
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")  # OWNER/NAME
    private: bool | None = None  # a new repository is private unless false; one that is there stays as it is
    licence: str | None = None  # SPDX, where the models' differ: what holds for all of them together
    licence_file: AbsolutePath | None = None  # its whole text; without: where it stands
    numbers: AbsolutePath | None = None  # numbers.json of jobs/evaluate_s2s.py
    samples: AbsolutePath | None = None  # a folder of sound files
    message: str = "Publish a bundle"


class Part(NamedTuple):
    """One model of the bundle, and what its README.md says."""

    name: str
    hash: str
    data: ModelCardData
    text: str


def publication(folder: Path, config: PublishConfig) -> dict[str, Path | bytes]:
    """Every file by its name in the repository.

    Raises:
        CheckpointError: when the bundle is damaged, or a model does not state its licence.
        ConfigError: when the licences differ and none is named, or a file that is named does not fit.
    """
    card = check_bundle(folder)
    parts = [_part(folder / name, name) for name in (S2S, CODEC, SPEAKERS) if (folder / name).is_dir()]
    licence = _licence(parts, config.licence)
    files: dict[str, Path | bytes] = {name: folder / name for name in (BUNDLE, TOKENIZER)}
    files |= {f"{part.name}/{name}": folder / part.name / name for part in parts for name in MODEL_FILES}
    samples = _samples(config.samples) if config.samples else {}
    numbers = _numbers(config.numbers, card) if config.numbers else None
    files[README] = hub_card(config.repository, card, parts, licence, samples, numbers).encode()
    files[LICENSE] = config.licence_file or _licence_text(licence).encode()
    files[NOTICE] = notice(config.repository, parts).encode()
    return files | samples


def size_of(content: Path | bytes) -> int:
    """Bytes."""
    return content.stat().st_size if isinstance(content, Path) else len(content)


def hub_card(
    repository: str,
    card: BundleCard,
    parts: Iterable[Part],
    licence: str,
    samples: Iterable[str] = (),
    numbers: Mapping[str, Any] | None = None,
) -> str:
    """README.md as the Hub reads it: metadata between `---`, then what every model says of itself.

    Raises:
        ConfigError: when the metadata does not hold together; the Hub's own client checks it.
    """
    parts = list(parts)
    results = _results(numbers) if numbers else None
    try:
        data = ModelCardData(
            language=_of(parts[:1], "language") or _of(parts, "language"),  # what the S2S model speaks
            license=licence,
            library_name=LIBRARY,
            pipeline_tag=TASK,
            tags=sorted({*_of(parts, "tags"), "speech-to-speech", "full-duplex"}),
            datasets=_of(parts, "datasets") or None,
            base_model=_of(parts, "base_model") or None,
            model_name=repository.partition("/")[2] if results else None,  # asked for with results alone
            eval_results=results,
        )
        return str(ModelCard(f"---\n{data}\n---\n{_body(repository, card, parts, samples)}"))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the models' README.md make no card for {repository} ({error})") from error


def _part(folder: Path, name: str) -> Part:
    readme = folder / README
    said = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    try:
        model = ModelCard(said)
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{readme} has metadata that cannot be read ({error}); mend it") from error
    data = ModelCardData(**model.data.to_dict())
    if not data.license:
        raise CheckpointError(
            f"{folder} does not state its licence; give it a README.md that begins with the lines "
            "`---`, `license: NAME`, `---` and says what it was trained on"
        )
    return Part(name, read_card(folder).hash, data, model.text.strip())


def _licence(parts: Iterable[Part], named: str | None) -> str:
    stated = {part.name: str(part.data.license) for part in parts}
    if named is None and len(set(stated.values())) > 1:
        told = ", ".join(f"{name} {licence}" for name, licence in stated.items())
        raise ConfigError(f"the models have several licences ({told}); name one for all of it: licence=NAME")
    return (named or next(iter(stated.values()))).lower()


def _licence_text(licence: str) -> str:
    try:
        name = canonicalize_license_expression(licence)
    except InvalidLicenseExpression as error:
        raise ConfigError(f"{licence} is no SPDX licence; give its text: licence_file=FILE") from error
    return (
        f"The models here are licensed under {name}.\n"
        f"Its text: https://spdx.org/licenses/{name}.html\n"
        f"Whom to name when they are used: {NOTICE}.\n"
    )


def notice(repository: str, parts: Iterable[Part]) -> str:
    """Whom to name: each model's licence and origin, and the sections with a table of licences."""
    written = [f"{repository}\n"]
    for part in parts:
        written.append(f"{part.name} {part.hash}, licence {part.data.license}")
        if models := _of([part], "base_model"):
            written.append(f"It is made of {', '.join(models)}.")
        sections = [text for text in SECTION.findall(part.text) if LICENCE_TABLE.search(text)]
        written += [_plain(text).removeprefix("## ") for text in sections] + [""]
    return "\n".join(written)


def _body(repository: str, card: BundleCard, parts: Iterable[Part], samples: Iterable[str]) -> str:
    hashes = "\n".join(f"| `{name}` | `{value}` |" for name, value in _hashes(card, parts).items())
    heard = [f"- [{name}]({name})" for name in samples]
    texts = [re.sub(r"^#", "##", _plain(part.text), flags=re.MULTILINE) for part in parts]
    return "\n\n".join(
        [
            f"# {repository.partition('/')[2]}",
            INTRODUCTION,
            f"```\npython -m jobs.serve --bundle hub:{repository}@REVISION\n```",
            REVISION,
            f"| part | hash |\n|---|---|\n{hashes}",
            *(["## Samples\n" + "\n".join(heard)] if heard else []),
            *texts,
            "",
        ]
    )


def _hashes(card: BundleCard, parts: Iterable[Part]) -> dict[str, str]:
    return {part.name: part.hash for part in parts} | {
        "tokenizer": card.tokenizer,
        "bundle": card.digest()[:16],
    }


def _plain(text: str) -> str:
    return LOCAL_LINK.sub(r"\1", text)


def _of(parts: Iterable[Part], field: str) -> list[str]:
    """What the parts' metadata have under a name, each once, in order."""
    found: list[str] = []
    for part in parts:
        value = getattr(part.data, field, None) or []
        found += [value] if isinstance(value, str) else [str(one) for one in value]
    return list(dict.fromkeys(found))


def _samples(folder: Path) -> dict[str, Path | bytes]:
    if not folder.is_dir():
        raise ConfigError(f"samples: {folder} is no folder; name one of sound files")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES)
    if not found:
        raise ConfigError(f"samples: {folder} holds no sound files; leave samples out")
    return {f"{SAMPLES}/{path.name}": path for path in found}


def _numbers(path: Path, card: BundleCard) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"numbers: {path} cannot be read ({error})") from error
    if not isinstance(told, dict) or not isinstance(told.get("numbers"), dict):
        raise ConfigError(f"numbers: {path} is not what jobs/evaluate_s2s.py writes as numbers.json")
    if (judged := told.get("hashes", {}).get(S2S)) != card.s2s:
        raise ConfigError(
            f"numbers: {path} is of S2S model {judged}, the bundle holds {card.s2s}; judge that one"
        )
    return told


def _results(told: Mapping[str, Any]) -> list[EvalResult]:
    """One for each number; without a value (nothing could be judged) there is none."""
    measured = {key: value for key, value in told["numbers"].items() if isinstance(value, int | float)}
    return [
        EvalResult(
            task_type=TASK,
            dataset_type="dialogues",
            dataset_name=f"held-out dialogues {told.get('data_hash', '')}".strip(),
            metric_type=name,
            metric_value=value,
        )
        for name, value in measured.items()
    ]
