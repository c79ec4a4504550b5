"""Are the shipped models here, and are they the bytes their cards name?"""

from collections.abc import Mapping
from pathlib import Path

from paluku.errors import CheckpointError, ConfigError
from paluku.registry.artefact import CONFIG, WEIGHTS, Card, read_card, sha256_file
from paluku.registry.shipped import shipped
from paluku.serving.doctor.finding import Finding, failure, well

KINDS = ("codec", "s2s", "speakers")
MEND = "restore the folder from the repository: git checkout -- models"


def check(folders: Mapping[str, Path] | None = None) -> list[Finding]:
    """Each model's card, the hash of its weights, and that the S2S model speaks this codec."""
    folders = folders or {kind: shipped(kind) for kind in KINDS}
    findings, cards = [], dict[str, Card]()
    for kind, folder in folders.items():
        try:
            cards[kind] = _card(folder, kind)
            findings.append(well(f"model {kind}", f"{cards[kind].hash}, step {cards[kind].step}"))
        except (CheckpointError, ConfigError, OSError) as error:
            findings.append(failure(f"model {kind}", str(error), MEND))
    if {"codec", "s2s"} <= cards.keys() and (spoken := cards["s2s"].parents.get("codec")) != cards[
        "codec"
    ].hash:
        told = f"the S2S model was trained on codec {spoken}, here is {cards['codec'].hash}"
        findings.append(failure("models", told, MEND))
    return findings


def _card(folder: Path, kind: str) -> Card:
    """Raises CheckpointError when a file is missing or is not what the card names."""
    card = read_card(folder, kind)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing")
    if (actual := sha256_file(folder / WEIGHTS)) != card.weights_sha256:
        raise CheckpointError(f"{folder / WEIGHTS} has sha256 {actual[:12]}, not {card.weights_sha256[:12]}")
    return card
