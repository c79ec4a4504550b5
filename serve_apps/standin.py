"""The speech application over stages of no cost: what the graph itself carries, and who hears whom.

A client that names session and frame in its sound finds both in what it hears (standin_stages.py).
Sessions, leases, moves, protocols and every call between replicas are the real ones.
"""

import hashlib
from pathlib import Path
from typing import Any

from ray.serve import Application

from paluku.config import resolve
from paluku.serving.ports import StageCard
from paluku.serving.replica import Generation, StageReplica
from paluku.streaming.leases import LeaseTable
from paluku.tokens.text import default_tokenizer
from serve_apps.speech import SpeechAppConfig, build
from serve_apps.standin_stages import FRAME_SAMPLES, WIDTH_OUT, K, stage_of

RATE_HZ = 16_000


def app(args: dict[str, Any]) -> Application:
    """Build the application; `bundle` is any name, and names a model to reload.

    Raises:
        ConfigError: when a key of `args` is unknown or missing, or a value does not fit.
    """
    return build(resolve(SpeechAppConfig, args, "args of the stand-in application"), StandinReplica)


class StandinReplica(StageReplica):
    """Leases, order and reloads are the real replica's; a bundle is any name."""

    def _find(self, bundle: str) -> tuple[Path, str]:
        return Path(bundle), hashlib.sha256(bundle.encode()).hexdigest()

    def _load(self, folder: Path) -> Generation:
        seats = self._config.num_seats
        stage = stage_of(self._name, seats)
        card = StageCard(
            stage=self._name,
            bundle=self._find(str(folder))[1],
            codec="standin",
            num_seats=seats,
            sample_rate_hz=RATE_HZ,
            frame_samples=FRAME_SAMPLES,
            num_codebooks=K,
            tokenizer=default_tokenizer().to_json(),
            reach_frames=stage.reach_frames,
            sound_reach_frames=0 if self._name in ("encode", "fused") else None,
            silence=(0,) * K if self._name in ("encode", "fused") else None,
            acoustic_delay_frames=1 if self._name in ("converse", "fused") else None,
        )
        leases = LeaseTable(seats, self._config.lease_s, self._clock)
        return Generation(stage, card, leases, WIDTH_OUT[self._name])
