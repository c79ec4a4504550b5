"""`serve deploy` on a running cluster, and the wait until the application answers."""

import http.client
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paluku.errors import ServiceError

TIMEOUT_S = 180
QUOTED_CHARACTERS = 600


def deploy(
    config: Path, application: str, dashboard_url: str, endpoint_url: str, env: Mapping[str, str]
) -> None:
    """Deploy a Serve config file, and return when `endpoint_url`/health answers.

    Raises:
        ServiceError: when Serve refuses the file, the deployment fails, or it is not up in time.
    """
    serve = str(Path(sys.executable).with_name("serve"))
    command = [serve, "deploy", str(config), "--address", dashboard_url]
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"serve deploy failed: {done.stderr.strip()[-QUOTED_CHARACTERS:]}")
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        status = _status(application, dashboard_url, env.get("RAY_AUTH_TOKEN", ""))
        if status.get("status") == "DEPLOY_FAILED":
            reason = str(status.get("message", ""))[-QUOTED_CHARACTERS:]
            raise ServiceError(f"the application could not be deployed: {reason}")
        if status.get("status") == "RUNNING" and _get(f"{endpoint_url}/health") is not None:
            return
        time.sleep(0.5)
    raise ServiceError(f"the application was not up within {TIMEOUT_S} s")


def _status(application: str, dashboard_url: str, token: str) -> dict[str, Any]:
    found = _get(f"{dashboard_url}/api/serve/applications/", token)
    return json.loads(found).get("applications", {}).get(application, {}) if found else {}


def _get(url: str, token: str = "") -> bytes | None:
    """The body of a 200 answer, or none."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 (http)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return answer.read()
    except (urllib.error.URLError, OSError, http.client.HTTPException):
        return None
