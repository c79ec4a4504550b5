"""The cluster files by Ray's own judgement, and by what they promise each other."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws import config as aws_config
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from paluku.cluster.local import LocalRay
from paluku.cluster.train import Placement
from paluku.config import load, resolve, split_section
from paluku.training.s2s_config import S2STrainingConfig
from serve_apps.speech import SpeechAppConfig

ROOT = Path(__file__).resolve().parents[2]
LAUNCHED = ("cluster.yaml", "deploy/gcp.yaml", "deploy/local.yaml")
AT_CLOUDS = LAUNCHED[:2]
KUBERAY = ROOT / "deploy" / "kuberay"


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def assignments(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_up_takes_the_file(name: str) -> None:
    prepared = prepare_config(read(name))
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_node_gets_what_its_setup_reads_and_nothing_large(name: str) -> None:
    config = read(name)
    mounts = config["file_mounts"]
    assert mounts == read("cluster.yaml")["file_mounts"]
    mounted = {source for source in mounts.values() if not source.startswith("~")}
    assert all((ROOT / source).exists() and mounts[f"~/paluku/{source}"] == source for source in mounted)
    # What `pip install` reads, what jobs and Serve import, what nodes run.
    assert mounted >= {"pyproject.toml", "README.md", "constraints.txt", "requirements-nodeps.txt"}
    assert mounted >= {"platform", "jobs", "serve_apps", "models", "deploy"}
    assert not any(part in source for source in mounted for part in (".venv", ".paluku", ".git", "tests"))


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_one_script_sets_nodes_up(name: str) -> None:
    config = read(name)
    lists = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    verbs = []
    for command in (command for key in lists for command in config[key]):
        words = shlex.split(command)
        if "~/paluku/deploy/setup_node.sh" in words:
            verbs.append(words[words.index("~/paluku/deploy/setup_node.sh") + 1])
        else:
            assert words == ["~/paluku-venv/bin/ray", "stop"]
    assert verbs == ["install", "head", "worker"]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in config["head_start_ray_commands"][-1]
    assert config["worker_start_ray_commands"][-1].endswith("worker $RAY_HEAD_IP")


@pytest.mark.parametrize("name", AT_CLOUDS)
def test_a_head_without_work_and_workers_that_come_when_asked_for(name: str) -> None:
    config = read(name)
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "keeper": 1}
    assert "--num-cpus=0" in config["head_start_ray_commands"][-1]
    workers = {kind: node for kind, node in types.items() if kind != "head"}
    assert all(node["min_workers"] == 0 for node in workers.values())
    assert sum(node["max_workers"] for node in workers.values()) <= config["max_workers"]
    spot = {kind for kind, node in workers.items() if "spot" in json.dumps(node["node_config"]).lower()}
    assert spot == {"gpu_spot", "cpu_spot"}
    assert workers["gpu"]["resources"] == workers["gpu_spot"]["resources"]


@pytest.mark.parametrize("name", AT_CLOUDS)
def test_a_gpu_worker_holds_one_replica_of_each_stage(name: str) -> None:
    """serve_apps/speech.yaml asks for whole sets: no replica waits for a node that never comes."""
    (application,) = read("serve_apps/speech.yaml")["applications"]
    stages = [d["ray_actor_options"] for d in application["deployments"] if "user_config" in d]
    node = read(name)["available_node_types"]["gpu"]["resources"]
    assert sum(stage["num_gpus"] for stage in stages) <= node["GPU"]
    assert sum(stage["num_cpus"] for stage in stages) < node["CPU"]


def test_aws_opens_ssh_and_nothing_else_and_launches_every_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`ray up` and the autoscaler against a stand-in of AWS, whose client checks every parameter."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setattr(aws_config.time, "sleep", lambda _: None)  # for IAM to become consistent
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        prepared = prepare_config(read("cluster.yaml"))
        # Ray's answer to what an instance type holds wins over ours where it is of AWS: they agree.
        filled = AWSNodeProvider.fillout_available_node_types_resources(prepared)
        for kind, node in prepared["available_node_types"].items():
            known = filled["available_node_types"][kind]["resources"]
            assert {name: known[name] for name in node["resources"]} == node["resources"]
        config = aws_config.bootstrap_aws(filled)
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for kind, node in config["available_node_types"].items():
            tags = {"ray-node-name": kind, "ray-user-node-type": kind}
            assert provider.create_node(dict(node["node_config"]), tags, 1), kind

        ec2 = boto3.resource("ec2", region_name=config["provider"]["region"])
        (group,) = (g for g in ec2.security_groups.all() if g.group_name == "paluku")
        outside = [rule for rule in group.ip_permissions if rule["IpRanges"] or rule["Ipv6Ranges"]]
        assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
        (inside,) = (rule for rule in group.ip_permissions if rule not in outside)
        assert [pair["GroupId"] for pair in inside["UserIdGroupPairs"]] == [group.id]
        nodes = list(ec2.instances.all())
        assert [node.security_groups[0]["GroupId"] for node in nodes] == [group.id] * 4
        assert sorted(node.instance_lifecycle or "" for node in nodes) == ["", "", "spot", "spot"]


def test_the_pins_are_the_ones_of_constraints() -> None:
    ours = pins("constraints.txt")
    for manifest in (KUBERAY / "rayservice.yaml", KUBERAY / "rayjob.yaml"):
        spec = yaml.safe_load(manifest.read_text(encoding="utf-8"))["spec"]
        assert cluster_of(spec)["rayVersion"] == ours["ray"]
    also = pins("deploy/gcp-constraints.txt")
    assert "google-api-python-client" in also
    assert not {name for name in also if also[name] != ours.get(name, also[name])}
    # Without it the launcher cannot call AWS from the head; `install` pins what it is given.
    assert "boto3" in ours
    assert read("cluster.yaml")["setup_commands"][0].endswith("install boto3")


def test_every_way_to_start_ray_has_the_same_environment() -> None:
    said = assignments((ROOT / "deploy" / "node.env").read_text(encoding="utf-8"))
    image = dict(pair.split("=", 1) for pair in dockerfile("ENV"))
    assert {name: image.get(name) for name in said} == said
    local = LocalRay().env
    shared = {name for name in said if name.startswith("RAY_")}
    assert {name: local[name] for name in shared} == {name: said[name] for name in shared}


def dockerfile(instruction: str) -> list[str]:
    """All words after an instruction."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line.split() for line in text.splitlines())
    return [word for line in lines if line[:1] == [instruction] for word in line[1:]]


def test_the_image_holds_what_a_node_holds() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for word in dockerfile("COPY") if not word.startswith("/")}
    assert all((ROOT / name).exists() for name in copied)
    assert all(any(name == root or name.startswith(f"{root}/") for root in let_in) for name in copied)
    assert copied >= {"platform", "jobs", "serve_apps", "models", "deploy/setup_node.sh", "deploy/node.env"}


def cluster_of(spec: dict[str, Any]) -> dict[str, Any]:
    return spec["rayClusterConfig"] if "rayClusterConfig" in spec else spec["rayClusterSpec"]


@pytest.mark.parametrize("name", ["rayservice", "rayjob"])
def test_kubernetes_pods_share_image_volume_and_rights(name: str) -> None:
    document = yaml.safe_load((KUBERAY / f"{name}.yaml").read_text(encoding="utf-8"))
    assert document["apiVersion"] == "ray.io/v1"
    cluster = cluster_of(document["spec"])
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    start = cluster["headGroupSpec"]["rayStartParams"]
    assert start["num-cpus"] == "0"
    assert json.loads(json.loads(start["resources"])) == {"keeper": 1}  # a shell unquotes it once
    claim, server, mlflow = yaml.safe_load_all((KUBERAY / "mlflow.yaml").read_text(encoding="utf-8"))
    assert (server["metadata"]["name"], server["spec"]["ports"][0]["port"]) == ("mlflow", 5000)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"], mlflow["spec"]]
    for pod in (group["template"]["spec"] for group in groups):
        (container,) = pod["containers"]
        assert container["image"] == "REGISTRY/paluku:latest"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"][:1]]
        assert claims == [claim["metadata"]["name"]]


def test_kubernetes_serves_what_serve_deploy_would() -> None:
    spec = yaml.safe_load((KUBERAY / "rayservice.yaml").read_text(encoding="utf-8"))["spec"]
    served, shipped = yaml.safe_load(spec["serveConfigV2"]), read("serve_apps/speech.yaml")
    ServeDeploySchema.model_validate(served)
    (application,), (expected,) = served["applications"], shipped["applications"]
    (memory,) = (d for d in application["deployments"] if d["name"] == "Memory")
    assert memory["ray_actor_options"]["resources"].keys() == {"keeper"}
    for deployments in (application["deployments"], expected["deployments"]):
        next(d for d in deployments if d["name"] == "Memory").pop("ray_actor_options")
    assert served == shipped
    config = resolve(SpeechAppConfig, application["args"], "args")
    (gpu,) = cluster_of(spec)["workerGroupSpecs"]
    assert config.autoscaling is not None
    assert gpu["minReplicas"] == config.autoscaling.min_replicas
    assert gpu["maxReplicas"] == config.autoscaling.max_replicas


def test_the_kubernetes_job_is_one_that_would_start() -> None:
    spec = yaml.safe_load((KUBERAY / "rayjob.yaml").read_text(encoding="utf-8"))["spec"]
    python, m, job, config, *overrides = shlex.split(spec["entrypoint"])
    assert (python, m, job) == ("python", "-m", "jobs.train_s2s")
    placed, rest = split_section(overrides, "placement")
    training = load(S2STrainingConfig, ROOT / Path(config).relative_to("/opt/paluku"), rest)
    placement = resolve(Placement, {"experiment": "s2s", **placed}, "placement")
    (gpu,) = cluster_of(spec)["workerGroupSpecs"]
    assert placement.workers <= gpu["maxReplicas"]
    assert all(str(path).startswith("/data/") for path in (training.tokens, training.out, placement.storage))


def test_git_keeps_the_script_executable() -> None:
    assert (ROOT / "deploy" / "setup_node.sh").stat().st_mode & 0o111
    staged = subprocess.run(
        ["git", "ls-files", "--stage", "deploy/setup_node.sh"], cwd=ROOT, capture_output=True, text=True
    )
    assert not staged.stdout or staged.stdout.startswith("100755")
