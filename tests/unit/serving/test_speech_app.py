from pathlib import Path
from typing import Any

import pytest
import yaml

from paluku.config import resolve
from paluku.errors import ConfigError
from serve_apps.speech import SpeechAppConfig, app

LOCAL = Path(__file__).parents[3] / "serve_apps" / "speech.local.yaml"


@pytest.fixture
def application() -> dict[str, Any]:
    (application,) = yaml.safe_load(LOCAL.read_text(encoding="utf-8"))["applications"]
    return application


def test_the_shipped_config_builds_the_application(application: dict[str, Any]) -> None:
    config = resolve(SpeechAppConfig, application["args"], str(LOCAL))
    assert config.num_seats >= 4
    app(application["args"])


def test_the_shipped_config_fits_on_two_cores(application: dict[str, Any]) -> None:
    cpus = [deployment["ray_actor_options"]["num_cpus"] for deployment in application["deployments"]]
    assert sum(cpus) <= 1.5  # Serve's controller and proxy want some too


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seats": 4}, "unknown key 'seats'"),
        ({"num_seats": 0}, "num_seats"),
        ({"cache": "models"}, "must be absolute"),
        ({"serving": {"retry": 1}}, "unknown key 'serving.retry'"),
    ],
)
def test_wrong_args_stop_the_deployment(
    application: dict[str, Any], change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        app(application["args"] | change)
