"""A reporter for a terminal: what `python -m` and torchrun use where there is no Ray and no MLflow."""

import re
from collections.abc import Mapping
from pathlib import Path

from paluku.log import logger
from paluku.training.world import World

log = logger("training")

OF_A_CODEBOOK = re.compile(r"_\d+($|_)")  # codes_3, dev_codebook_3_perplexity: too many for a line


class ConsoleReporter:
    """Rank 0 writes one log line a report; files stay where the loop wrote them."""

    run_id = "console"

    def __init__(self, world: World) -> None:
        self._speaks = world.is_main

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One line: the step and every metric that is not of a single codebook."""
        if self._speaks:
            shown = [f"{key}={value:.4g}" for key, value in values.items() if not OF_A_CODEBOOK.search(key)]
            log.info("step %d %s", step, " ".join(shown))

    def artifact(self, path: Path, folder: str) -> None:
        """One line: where the file lies."""
        if self._speaks:
            log.info("%s: %s", folder, path)

    def checkpoint(self, folder: Path | None, step: int) -> None:
        """One line: where the checkpoint lies."""
        if self._speaks:
            log.info("step %d checkpoint %s", step, folder)
