"""The speech application: three stages and an ingress. `serve deploy serve_apps/speech.local.yaml`."""

from typing import Any

from pydantic import Field
from ray import serve
from ray.serve import Application

from paluku.config import AbsolutePath, Config, resolve
from paluku.serving.config import ServingConfig
from paluku.serving.ingress import Ingress
from paluku.serving.replica import ReplicaConfig, StageReplica

# A WebSocket is one ongoing request for as long as it lives; Serve's default of 5 would let the sixth
# wait. Seats bound the sessions, so this is far above them: whoever finds none is told so at once.
MAX_ONGOING_CONNECTIONS = 1_000
# Batches in flight, opens and closes of one ingress: a stage is called by no one else.
MAX_ONGOING_CALLS = 100


class SpeechAppConfig(Config):
    """The `args` of the application in a Serve config file."""

    bundle: str  # a bundle's folder, models:/NAME@ALIAS or models:/NAME/VERSION
    cache: AbsolutePath  # where bundles from the registry are kept
    tracking_uri: str = ""
    num_seats: int = Field(default=8, ge=1)
    torch_threads: int = Field(default=1, ge=1)
    serving: ServingConfig = ServingConfig()


def app(args: dict[str, Any]) -> Application:
    """Build the application.

    Raises:
        ConfigError: when a key of `args` is unknown or missing, or a value does not fit.
    """
    config = resolve(SpeechAppConfig, args, "args of the speech application")
    replica = ReplicaConfig(**config.model_dump(exclude={"serving"}))
    stage = serve.deployment(max_ongoing_requests=MAX_ONGOING_CALLS)(StageReplica)
    ingress = serve.deployment(max_ongoing_requests=MAX_ONGOING_CONNECTIONS)(Ingress)
    return ingress.bind(
        stage.options(name="Encode").bind("encode", replica),
        stage.options(name="Converse").bind("converse", replica),
        stage.options(name="Decode").bind("decode", replica),
        config.serving,
    )
