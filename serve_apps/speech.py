"""The speech application: `serve deploy serve_apps/speech.yaml` on a cluster, `make serve` on one machine."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from ray import serve
from ray.serve import Application, Deployment

from paluku.config import AbsolutePath, Config, resolve
from paluku.serving.autoscaling import Autoscaling
from paluku.serving.config import ServingConfig
from paluku.serving.ingress import Ingress
from paluku.serving.replica import ReplicaConfig, StageName, StageReplica
from paluku.serving.router import router_config
from paluku.serving.snapshots import MemoryConfig, MemoryReplica

Topology = Literal["graph", "fused"]
DeploymentName = Literal["Encode", "Converse", "Decode", "Speech"]
# Deployments and their stages, in the order in which a frame goes through them.
STAGES: dict[Topology, dict[DeploymentName, StageName]] = {
    "graph": {"Encode": "encode", "Converse": "converse", "Decode": "decode"},
    "fused": {"Speech": "fused"},
}

# A WebSocket is one ongoing request for as long as it lives; Serve's default of 5 would let the sixth
# wait. Seats bound the sessions, so this is far above them: whoever finds none is told so at once.
MAX_ONGOING_CONNECTIONS = 1_000
# Batches in flight, opens, primes and closes of several ingresses.
MAX_ONGOING_CALLS = 500
# A stopping replica answers for so long more: the time to move its sessions, several times over.
DRAIN_S = 10.0
# How soon the controller finds a dead replica and begins to start another (10 s by default).
HEALTH_PERIOD_S = 2.0


class StageSettings(Config):
    """What one stage has otherwise than the rest."""

    num_seats: int | None = Field(default=None, ge=1)
    torch_threads: int | None = Field(default=None, ge=1)
    autoscaling: Autoscaling | None = None


class SpeechAppConfig(Config):
    """The `args` of the application in a Serve config file."""

    topology: Topology = "graph"
    # A bundle's folder, models:/NAME@ALIAS, models:/NAME/VERSION or hub:OWNER/NAME@REVISION: what stages
    # load whose `user_config` in the file names none. Changed there, it is loaded beside the old one;
    # changed here, it restarts every replica.
    bundle: str = ""
    tracking_uri: str = ""
    cache: AbsolutePath  # where bundles from the registry are kept
    num_seats: int = Field(default=8, ge=1)  # of each replica
    torch_threads: int = Field(default=1, ge=1)
    compiled: bool = False  # as ReplicaConfig's
    guided: bool = False
    # None: as many replicas of each stage as the file's `num_replicas` says.
    autoscaling: Autoscaling | None = None
    stages: dict[DeploymentName, StageSettings] = Field(default_factory=dict)
    serving: ServingConfig = ServingConfig()

    @model_validator(mode="after")
    def _stages_exist(self) -> "SpeechAppConfig":
        if unknown := self.stages.keys() - STAGES[self.topology].keys():
            known = ", ".join(STAGES[self.topology])
            raise ValueError(f"topology {self.topology} has the stages {known}, not {', '.join(unknown)}")
        return self

    def replica(self, name: DeploymentName) -> ReplicaConfig:
        """What a stage's replicas are given."""
        own = self.stages.get(name, StageSettings())
        return ReplicaConfig(
            tracking_uri=self.tracking_uri,
            cache=self.cache,
            num_seats=own.num_seats or self.num_seats,
            torch_threads=own.torch_threads or self.torch_threads,
            compiled=self.compiled,
            guided=self.guided,
            lease_s=self.serving.lease_s,
        )


def app(args: dict[str, Any]) -> Application:
    """Build the application.

    Raises:
        ConfigError: when a key of `args` is unknown or missing, or a value does not fit.
    """
    return build(resolve(SpeechAppConfig, args, "args of the speech application"), StageReplica)


def build(config: SpeechAppConfig, replica: type[Any]) -> Application:
    """The application over replicas of a class: `StageReplica`, or what stands in for it in a measurement."""
    stages = [
        _stage(config, name, replica).bind(stage, config.replica(name))
        for name, stage in STAGES[config.topology].items()
    ]
    memory = serve.deployment(
        name="Memory", max_ongoing_requests=MAX_ONGOING_CALLS, health_check_period_s=HEALTH_PERIOD_S
    )(MemoryReplica)
    kept = MemoryConfig(max_frames=config.serving.memory_frames, grace_s=config.serving.grace_s)
    ingress = serve.deployment(
        max_ongoing_requests=MAX_ONGOING_CONNECTIONS,
        health_check_period_s=HEALTH_PERIOD_S,
        max_surge_percent=100,  # its replacement is there before its clients are told to connect again
    )(Ingress)
    return ingress.bind(stages, memory.bind(kept), config.serving)


def _stage(config: SpeechAppConfig, name: DeploymentName, replica: type[Any]) -> Deployment:
    autoscaling = config.stages.get(name, StageSettings()).autoscaling or config.autoscaling
    options: Mapping[str, Any] = {"autoscaling_config": autoscaling.to_serve()} if autoscaling else {}
    return serve.deployment(
        name=name,
        max_ongoing_requests=MAX_ONGOING_CALLS,
        request_router_config=router_config(),
        graceful_shutdown_wait_loop_s=DRAIN_S,
        graceful_shutdown_timeout_s=2 * DRAIN_S,
        health_check_period_s=HEALTH_PERIOD_S,
        user_config={"bundle": config.bundle},
        **options,
    )(replica)
