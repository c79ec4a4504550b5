"""A source that lists what a test gives it, and rows as `prepare` makes them, without any sound."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from paluku.corpus.preparation.quality import Reject, UnusableError
from paluku.corpus.utterance import Utterance

RATE_HZ = 16_000


class ListedSource:
    """A `Source` over a list."""

    name, licence = "fake", "CC0-1.0"

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._utterances = utterances

    def iterate(self) -> Iterator[Utterance]:
        return iter(self._utterances)


def recording(number: int, **more: Any) -> Utterance:
    """One of ten speakers, three seconds."""
    about = {"id": f"r{number:04d}", "path": f"/r{number:04d}.wav", "speaker": f"s{number % 10}"}
    return Utterance(**{**about, "source": "fake", "licence": "CC0-1.0", "duration_s": 3.0, **more})


def row(utterance: Utterance, segment: int = 0, **more: Any) -> dict[str, Any]:
    """A prepared row whose audio is 1000 bytes that only this segment has."""
    name = f"{utterance.source}/{utterance.id}#{segment:04d}"
    digest = hashlib.sha256(name.encode()).digest()
    length_s = utterance.duration_s or 1.0
    made = {
        "id": name,
        "audio": (digest * 32)[:1000],
        "sample_rate_hz": RATE_HZ,
        "num_samples": round(length_s * RATE_HZ),
        "text": utterance.text,
        **utterance.model_dump(include={"language", "speaker", "gender", "source", "licence"}),
        "origin": utterance.path,
        "start_s": 0.0,
        "end_s": length_s,
        "source_rate_hz": 44_100,
        "snr_db": 30.0,
        "bandwidth_hz": 8_000,
        "clipped_share": 0.0,
        "silence_share": 0.25,
        "loudness_lufs": -30.0,
        "gain_db": 7.0,
        "fingerprint": fingerprint(name),
    }
    return made | more


def fingerprint(name: str) -> bytes:
    """Far from that of any other name, and of three seconds."""
    digest = hashlib.sha256(name.encode()).digest()
    return (300).to_bytes(2, "big") + digest


def fake_prepare(utterance: Utterance) -> Iterator[dict[str, Any] | Reject]:
    """Two segments, of which the second of every fifth recording is noise; every seventh is broken."""
    number = int(utterance.id[1:])
    if number % 7 == 6:
        raise UnusableError("broken", f"{utterance.path} is no sound")
    yield row(utterance, 0)
    if number % 5 == 4:
        about = {"id": f"{utterance.source}/{utterance.id}#0001", "source": utterance.source}
        yield Reject(**about, reason="noisy", detail="3 dB", duration_s=1.0)
        return
    yield row(utterance, 1)
