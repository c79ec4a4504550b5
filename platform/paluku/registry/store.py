"""Bundles in the MLflow model registry: registered under a name, found by alias or version."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from paluku.errors import CheckpointError, ServiceError, one_line
from paluku.registry.bundle import BUNDLE, open_bundle, read_bundle
from paluku.registry.server import check_server
from paluku.registry.tracking import experiment_id

# What is served, and what wants to be.
CHAMPION, CANDIDATE = "champion", "candidate"
# What MLflow says of a model, and of an alias, that is not there.
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def register(bundle: Path, name: str, tracking_uri: str, run_id: str, alias: str = CHAMPION) -> int:
    """Upload a bundle to a run, register it as a new version, and point the alias at it.

    `run_id` is the S2S model's training run; a model that was trained without this server gets a run
    of its own in the experiment `s2s`.

    Raises:
        CheckpointError: when the bundle is not whole.
        ServiceError: when the server is not there.
    """
    card = read_bundle(bundle)
    check_server(tracking_uri)
    client = MlflowClient(tracking_uri)
    run_id = run_id if _has_run(client, run_id) else _own_run(client, bundle)
    place = f"bundles/{card.s2s}"  # two checkpoints of one run are two bundles
    client.log_artifacts(run_id, str(bundle), place)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(
            name, description="Speech-to-speech bundles: codec, S2S model, tokenizer"
        )
    source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
    tags = {f"{part}_hash": value for part, value in card.model_dump(exclude={"schema_version"}).items()}
    version = client.create_model_version(name, source, run_id=run_id, tags=tags)
    client.set_registered_model_alias(name, alias, str(version.version))
    return int(version.version)


def version_at(name: str, alias: str, tracking_uri: str) -> int | None:
    """The version that an alias of a model points at; None while there is none.

    Raises:
        ServiceError: when the server is not there, or does not say.
    """
    check_server(tracking_uri)
    try:
        return int(MlflowClient(tracking_uri).get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        # A champion that is not seen would be replaced by whoever passes the floors of a first model.
        raise ServiceError(
            f"the registry at {tracking_uri} does not say what {name}@{alias} is ({one_line(error)})"
        ) from error


def point(name: str, alias: str, version: int, tracking_uri: str) -> None:
    """Make an alias point at a version.

    Raises:
        ServiceError: when the registry does not take it.
    """
    try:
        MlflowClient(tracking_uri).set_registered_model_alias(name, alias, str(version))
    except MlflowException as error:
        raise ServiceError(
            f"{name}@{alias} still points where it did: the registry at {tracking_uri} refuses ({error})"
        ) from error


def note(name: str, version: int, tags: Mapping[str, str], tracking_uri: str) -> None:
    """Write on a version what became of it."""
    client = MlflowClient(tracking_uri)
    for key, value in tags.items():
        client.set_model_version_tag(name, str(version), key, value)


def _has_run(client: MlflowClient, run_id: str) -> bool:
    try:
        client.get_run(run_id)
    except MlflowException:
        return False
    return True


def _own_run(client: MlflowClient, bundle: Path) -> str:
    run_id = client.create_run(experiment_id(client, "s2s"), run_name=bundle.name).info.run_id
    client.set_terminated(run_id)
    return run_id


def fetch(uri: str, tracking_uri: str, cache: Path) -> Path:
    """A bundle's folder: `models:/NAME@ALIAS` or `models:/NAME/VERSION` downloaded, else as `open_bundle`.

    A version is downloaded once; several processes may fetch it at the same time.

    Raises:
        CheckpointError: when there is no such model, alias or version, or the bundle is damaged.
        ServiceError: when the server is not there.
    """
    match = MODEL_URI.fullmatch(uri)
    if match is None:
        if uri.startswith("models:"):
            raise CheckpointError(f"{uri!r} is neither models:/NAME@ALIAS nor models:/NAME/VERSION")
        return open_bundle(uri)
    check_server(tracking_uri)
    client = MlflowClient(tracking_uri)
    try:
        if match["alias"]:
            version = client.get_model_version_by_alias(match["name"], match["alias"])
        else:
            version = client.get_model_version(match["name"], match["version"])
    except MlflowException as error:
        raise CheckpointError(
            f"{uri} is not in the registry at {tracking_uri}; run jobs/promote.py"
        ) from error
    # The run names the bytes: after a registry was made anew, version 1 is another bundle.
    folder = cache / f"{match['name']}-{version.version}-{version.run_id}"
    if not (folder / BUNDLE).is_file():
        _download(version.source or "", tracking_uri, folder)
    if (actual := read_bundle(folder).s2s) != (registered := (version.tags or {}).get("s2s_hash", actual)):
        raise CheckpointError(
            f"{uri} was registered with S2S model {registered}, but {folder} holds {actual}"
        )
    return folder


def _download(source: str, tracking_uri: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as scratch:
        try:
            fetched = Path(
                download_artifacts(artifact_uri=source, dst_path=scratch, tracking_uri=tracking_uri)
            )
            fetched.rename(folder)
        except (MlflowException, OSError) as error:
            if not (folder / BUNDLE).is_file():  # else another process was faster: its copy is as good
                raise ServiceError(f"{source} cannot be fetched from {tracking_uri} ({error})") from error
