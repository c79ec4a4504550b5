"""What a promotion is asked: which parts, judged by what, and whom to tell."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from paluku.config import AbsolutePath, Config
from paluku.evals.gates import GateSettings


class PromoteConfig(Config):
    """Which models become a registered model's version, and what they have to show for the alias `champion`.

    Any other alias is given without judging.
    """

    codec: AbsolutePath  # model folders, as training left them
    s2s: AbsolutePath
    tokenizer: AbsolutePath | None = None  # the file that the tokens were made with; without: the shipped one
    out: AbsolutePath  # the bundle's folder
    tracking_uri: str
    name: str = "paluku"
    alias: str = "champion"

    # What both are judged by: a folder of jobs/build_dialogues.py. Without it no gate can be computed.
    dialogues: str = ""
    split: Literal["train", "dev", "test"] = "test"
    cases: int = Field(default=32, ge=1)
    batch: int = Field(default=16, ge=1)
    seed: int = 0
    recognises: bool = True
    samples: int = Field(default=4, ge=0)
    seats: int = Field(default=4, ge=1)  # of the engines that are timed
    ticks: int = Field(default=300, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    gates: dict[str, GateSettings] = Field(
        default_factory=dict
    )  # other margins and floors, by the gate's key
    judged: AbsolutePath | None = None  # where reports and sound are written; beside `out` by default
    cache: AbsolutePath = Field(default_factory=lambda: Path("~/.cache/paluku/models").expanduser())

    force: bool = False  # move the alias whatever the gates say
    reason: str = ""  # why; a tag of the run and of the version

    # A running application that is to look again where the alias points: Ray's dashboard, and the variable
    # that holds its token. With the application's own address the job waits until it serves the new one.
    serve_url: str = ""
    serve_application: str = "speech"
    serve_key_env: str = "RAY_AUTH_TOKEN"
    endpoint_url: str = ""

    @model_validator(mode="after")
    def _force_has_a_reason(self) -> "PromoteConfig":
        if self.force and not self.reason.strip():
            raise ValueError("force=true needs reason=TEXT: who reads the run later wants to know why")
        return self

    @property
    def judged_folder(self) -> Path:
        """Where reports and sound are written."""
        return self.judged or self.out.with_name(f"{self.out.name}.judged")

    @property
    def serve_key(self) -> str:
        """The dashboard's token; empty where it needs none."""
        return os.environ.get(self.serve_key_env, "")

    def evaluation(self, bundle: Path) -> dict[str, Any]:
        """The fields of `s2s_run.Evaluation` for one of the two."""
        fields = ("dialogues", "split", "cases", "batch", "seed", "recognises", "samples")
        return {"bundle": str(bundle), **{name: getattr(self, name) for name in fields}}
