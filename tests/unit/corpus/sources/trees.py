"""Small corpora with the true layout of the published ones."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from paluku.corpus.sources.port import Source
from paluku.corpus.utterance import Utterance


def sound(path: Path, seconds: float = 0.5, rate_hz: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(rate_hz * seconds), np.float32), rate_hz)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())


def slr66(folder: Path, *, sounds: bool = True) -> None:
    lines = {
        "female": ("tef_00433_00011445523\tపలుకు తేనెల తల్లి\r\ntef_02001_00000000001\t\tరెండు\n"),
        "male": "tem_01523_00123456789\tమూడు\n",
    }
    for gender, content in lines.items():
        text(folder / f"te_in_{gender}" / "line_index.tsv", content)
        text(folder / f"te_in_{gender}" / "LICENSE", "CC BY-SA 4.0")
        for line in content.split("\n")[:-1] if sounds else []:
            sound(folder / f"te_in_{gender}" / f"{line.split(chr(9))[0]}.wav", rate_hz=48_000)


def ljspeech(folder: Path) -> None:
    top = folder / "LJSpeech-1.1"
    text(top / "README", "LJ Speech")
    text(
        top / "metadata.csv",
        'LJ001-0002|in being "comparatively" modern.|in being "comparatively" modern.\n'
        "LJ001-0001|Printed in 1465|Printed in fourteen sixty-five\n",
    )
    for name in ("LJ001-0001", "LJ001-0002"):
        sound(top / "wavs" / f"{name}.wav", rate_hz=22_050)


SPEAKERS = """; Information about the speakers
;
;ID  |SEX| SUBSET           |MINUTES| NAME
84   | F | dev-clean        | 8.02  | Christie Nowak
60   | M | dev-clean        | 20.18 | | CBW | Simon
8297 | M | test-clean       | 8.05  | David Mecionis
"""


def librispeech(folder: Path) -> None:
    top = folder / "LibriSpeech"
    text(top / "SPEAKERS.TXT", SPEAKERS)
    text(
        top / "dev-clean/84/121123/84-121123.trans.txt",
        "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS THAN FIVE MINUTES\n",
    )
    text(top / "dev-clean/60/121082/60-121082.trans.txt", "60-121082-0000 ONE\n")
    text(top / "test-clean/8297/275154/8297-275154.trans.txt", "8297-275154-0000 TWO\n")
    for name in ("84/121123/84-121123-0000", "84/121123/84-121123-0001", "60/121082/60-121082-0000"):
        sound(top / "dev-clean" / f"{name}.flac")
    sound(top / "test-clean/8297/275154/8297-275154-0000.flac")


def vctk(folder: Path) -> None:
    text(
        folder / "speaker-info.txt",
        "ID  AGE  GENDER  ACCENTS  REGION COMMENTS \n"
        "p225  23  F    English    Southern  England\n"
        "p315  18  M    American   New England (mic2 files unavailable)\n"
        "s5  28  M  British\n",
    )
    for name in ("p225/p225_001", "p225/p225_002", "p315/p315_001", "s5/s5_001"):
        sound(folder / "wav48_silence_trimmed" / f"{name}_mic1.flac", rate_hz=48_000)
        if not name.startswith("p315"):
            sound(folder / "wav48_silence_trimmed" / f"{name}_mic2.flac", rate_hz=48_000)
            text(folder / "txt" / f"{name}.txt", f"Please call Stella, {name[-3:]}.\n")
    text(folder / "wav48_silence_trimmed" / "log.txt", "p225 trimmed")


COMMON_VOICE_COLUMNS = [
    *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age"),
    *("gender", "accents", "variant", "locale", "segment"),
]


def common_voice(folder: Path, release: str = "cv-corpus-23.0-2025-09-05", *, durations: bool = True) -> None:
    top = folder / release / "te"
    rows = [
        ("a" * 128, "common_voice_te_3.mp3", "మీరు ఎలా\u2028ఉన్నారు?", "female_feminine"),
        ("b" * 128, "common_voice_te_1.mp3", '"నమస్కారం', "male"),
        ("c" * 128, "common_voice_te_2.mp3", "పలుకు", ""),
    ]
    for split, chosen in {"validated": rows, "train": rows[:1], "other": rows[2:]}.items():
        text(top / f"{split}.tsv", tsv(COMMON_VOICE_COLUMNS, [common_voice_row(*row) for row in chosen]))
    for row in rows:
        sound(top / "clips" / row[1], rate_hz=32_000)
    if durations:
        lines = "".join(f"{row[1]}\t{1500 + place}\n" for place, row in enumerate(rows))
        text(top / "clip_durations.tsv", "clip\tduration[ms]\n" + lines)


def common_voice_row(client: str, clip: str, sentence: str, gender: str) -> dict[str, str]:
    about = {"client_id": client, "path": clip, "sentence": sentence, "gender": gender}
    rest = {"up_votes": "2", "down_votes": "0", "age": "twenties", "locale": "te"}
    return dict.fromkeys(COMMON_VOICE_COLUMNS, "") | about | rest


def tsv(columns: list[str], rows: list[dict[str, str]]) -> str:
    return "".join("\t".join(line) + "\n" for line in [columns, *([row[c] for c in columns] for row in rows)])


def by_id(source: Source) -> Mapping[str, Utterance]:
    """What it lists, in its order; every file is there, and a second look gives the same."""
    listed = list(source.iterate())
    assert listed == list(source.iterate())
    assert len({(utterance.source, utterance.id) for utterance in listed}) == len(listed)
    assert all(utterance.path is not None and Path(utterance.path).is_file() for utterance in listed)
    return {utterance.id: utterance for utterance in listed}
