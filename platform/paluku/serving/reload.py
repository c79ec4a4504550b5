"""Ask a running application to look again where its model's alias points: no session ends.

Serve's configuration is read back from Ray's dashboard and applied again with another `revision` in the
stages' `user_config`; each replica then loads the bundle beside the one it serves (`serving.replica.Reload`).
"""

import copy
import http.client
import json
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

from paluku.errors import ServiceError, one_line

# Ray shows browsers this in place of a secret; applied again it would be taken for one.
REDACTED = "<redacted>"
TIMEOUT_S = 180.0
ASK_EVERY_S = 0.5


def revised(details: Mapping[str, Any], application: str, bundle: str, revision: str) -> dict[str, Any]:
    """Serve's configuration as `details` (of `GET /api/serve/applications/`) tells it, with the revision.

    Raises:
        ServiceError: when the application is not there, was not deployed from a file, or serves another
            bundle.
    """
    applications = details.get("applications", {})
    if (found := applications.get(application)) is None:
        there = ", ".join(applications) or "none"
        raise ServiceError(f"Serve runs no application {application!r} (there is: {there}); deploy it first")
    if (deployed := found.get("deployed_app_config")) is None:
        raise ServiceError(
            f"application {application!r} was not deployed from a file; "
            "use `serve deploy serve_apps/speech.yaml`"
        )
    stages = {
        name: settings
        for name, deployment in found["deployments"].items()
        if "bundle" in (settings := deployment["deployment_config"].get("user_config") or {})
    }
    served = {settings["bundle"] for settings in stages.values()}
    if served != {bundle}:
        raise ServiceError(
            f"application {application!r} serves {', '.join(sorted(served)) or 'no bundle'}, not {bundle}; "
            f"deploy it with user_config: {{bundle: {bundle}}} once, and later versions can be reloaded"
        )
    changed = copy.deepcopy(deployed)
    listed = {each["name"]: each for each in changed.setdefault("deployments", [])}
    for name, settings in stages.items():
        if name not in listed:
            listed[name] = {"name": name}
            changed["deployments"].append(listed[name])
        listed[name]["user_config"] = {**settings, "revision": revision}
    everything = {
        name: each["deployed_app_config"]
        for name, each in applications.items()
        if each["deployed_app_config"]
    }
    top = {
        key: details[key] for key in ("proxy_location", "http_options", "grpc_options") if details.get(key)
    }
    return {**top, "applications": list((everything | {application: changed}).values())}


def reload(dashboard_url: str, token: str, application: str, bundle: str, revision: str) -> None:
    """Make the application's replicas look where `bundle` points now; returns before they have loaded it.

    Raises:
        ServiceError: when the dashboard does not answer or refuses; as `revised`.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        client = ServeSubmissionClient(dashboard_url, headers=headers)
        config = revised(client.get_serve_details(), application, bundle, revision)
        if REDACTED in json.dumps(config):
            raise ServiceError(
                f"{dashboard_url} hides secrets of the configuration; it cannot be applied again"
            )
        client.deploy_applications(config)
    except (OSError, RuntimeError, ValueError) as error:  # what the client raises; `requests` an OSError
        raise ServiceError(f"Serve at {dashboard_url} does not reload: {one_line(error)}") from error


def wait_served(endpoint_url: str, digest: str, timeout_s: float = TIMEOUT_S) -> None:
    """Return once `endpoint_url`/health says that new sessions get this bundle (`BundleCard.digest`).

    Raises:
        ServiceError: when it does not in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while (served := _served(endpoint_url)) != digest:
        if time.monotonic() > deadline_s:
            raise ServiceError(
                f"{endpoint_url} serves {(served or 'nothing')[:12]} after {timeout_s:g} s, not "
                f"{digest[:12]}; its replicas' logs say why they go on with the old bundle"
            )
        time.sleep(ASK_EVERY_S)


def _served(endpoint_url: str) -> str | None:
    try:
        with urllib.request.urlopen(f"{endpoint_url.rstrip('/')}/health", timeout=5) as answer:  # noqa: S310
            return json.load(answer).get("bundle")
    except (OSError, ValueError, http.client.HTTPException):
        return None
