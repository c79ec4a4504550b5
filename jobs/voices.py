"""Where the HTS voice file is on this machine."""

import os
from pathlib import Path

from jobs.submit import ROOT
from paluku.corpus.voices.hts import VOICE_VARIABLE

BESIDE = ROOT.parent / "shared" / "voices" / "cmu-nk-hsmm" / "nk.htsvoice"


def find_hts_voice() -> Path | None:
    """`PALUKU_HTS_VOICE`, else the file beside the repository, which the variable is then set to.

    Ray's processes inherit the variable when this is called before the cluster starts.
    """
    if named := os.environ.get(VOICE_VARIABLE):
        return Path(named)
    if not BESIDE.is_file():
        return None
    os.environ[VOICE_VARIABLE] = str(BESIDE)
    return BESIDE
