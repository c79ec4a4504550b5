from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from paluku.config import resolve
from paluku.errors import ConfigError
from paluku.serving.replica import Reload
from serve_apps.speech import STAGES, SpeechAppConfig, app

FOLDER = Path(__file__).parents[3] / "serve_apps"
SHIPPED = ("speech.local.yaml", "speech.yaml")
OWN = {"Ingress", "Memory"}


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def application(name: str) -> dict[str, Any]:
    (only,) = read(name)["applications"]
    return only


def deployments(application: Any) -> dict[str, Any]:
    """Of a built application, by name."""
    found, waiting = {}, [application]
    while waiting:
        one = waiting.pop()._bound_deployment
        found[one.name] = one
        for argument in (*one.init_args, *one.init_kwargs.values()):
            parts = argument if isinstance(argument, list) else [argument]
            waiting += [part for part in parts if hasattr(part, "_bound_deployment")]
    return found


@pytest.fixture
def args() -> dict[str, Any]:
    return application("speech.local.yaml")["args"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_builds_the_deployments_it_configures(name: str) -> None:
    shipped = application(name)
    config = resolve(SpeechAppConfig, shipped["args"], name)
    built = deployments(app(shipped["args"]))
    assert built.keys() == OWN | STAGES[config.topology].keys()
    assert built.keys() == {deployment["name"] for deployment in shipped["deployments"]}
    ServeDeploySchema.model_validate(read(name))


@pytest.mark.parametrize("topology", STAGES)
def test_each_topology_has_its_stages_in_their_order(args: dict[str, Any], topology: Any) -> None:
    built = deployments(app(args | {"topology": topology}))
    (stages, _, _) = built["Ingress"].init_args
    assert [stage._bound_deployment.name for stage in stages] == list(STAGES[topology])
    assert built.keys() == OWN | STAGES[topology].keys()


def test_the_local_config_is_the_graph_with_eight_seats_on_two_cores() -> None:
    local = application("speech.local.yaml")
    config = resolve(SpeechAppConfig, local["args"], "local")
    assert (config.topology, config.num_seats, config.autoscaling) == ("graph", 8, None)
    cpus = [deployment["ray_actor_options"]["num_cpus"] for deployment in local["deployments"]]
    assert sum(cpus) <= 1.5  # Serve's controller and proxy want some too


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_gives_every_stage_the_same_model(name: str) -> None:
    shipped = application(name)
    said = {d["name"]: d["user_config"] for d in shipped["deployments"] if "user_config" in d}
    assert said.keys() == STAGES["graph"].keys()
    assert len({resolve(Reload, values, "user_config") for values in said.values()}) == 1


def test_the_cluster_config_scales_every_stage() -> None:
    built = deployments(app(application("speech.yaml")["args"]))
    for name in STAGES["graph"]:
        scaling = built[name]._deployment_config.autoscaling_config
        assert scaling.min_replicas >= 2  # one may die
        assert scaling.policy.policy_kwargs == {"up_occupancy": 0.7, "down_occupancy": 0.5}


def test_a_stage_drains_and_the_ingress_surges(args: dict[str, Any]) -> None:
    built = deployments(app(args | {"bundle": "some/bundle"}))
    for name in STAGES["graph"]:
        config = built[name]._deployment_config
        assert config.graceful_shutdown_wait_loop_s == 10
        assert config.graceful_shutdown_timeout_s > config.graceful_shutdown_wait_loop_s
        assert config.request_router_config.request_router_class == "paluku.serving.router:AddressingRouter"
        assert config.user_config == {"bundle": "some/bundle"}
    assert built["Ingress"]._deployment_config.max_surge_percent == 100


def test_one_stage_may_differ_from_the_rest(args: dict[str, Any]) -> None:
    own = {"Converse": {"num_seats": 4, "autoscaling": {"max_replicas": 9}}}
    config = resolve(SpeechAppConfig, args | {"stages": own}, "here")
    assert [config.replica(name).num_seats for name in STAGES["graph"]] == [8, 4, 8]
    built = deployments(app(args | {"stages": own}))
    assert built["Converse"]._deployment_config.autoscaling_config.max_replicas == 9
    assert built["Encode"]._deployment_config.autoscaling_config is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seats": 4}, "unknown key 'seats'"),
        ({"num_seats": 0}, "num_seats"),
        ({"cache": "models"}, "must be absolute"),
        ({"serving": {"retry": 1}}, "unknown key 'serving.retry'"),
        ({"topology": "chain"}, "topology"),
        ({"stages": {"Speech": {}}}, "topology graph has the stages Encode, Converse, Decode, not Speech"),
        ({"stages": {"Encode": {"seats": 1}}}, "unknown key 'stages.Encode.seats'"),
        ({"autoscaling": {"target": 1}}, "unknown key 'autoscaling.target'"),
    ],
)
def test_wrong_args_stop_the_deployment(args: dict[str, Any], change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        app(args | change)
