import copy
from typing import Any

import pytest

from paluku.errors import ServiceError
from paluku.serving.reload import reload, revised, wait_served

URI = "models:/paluku@champion"
DEPLOYED = {
    "name": "speech",
    "import_path": "serve_apps.speech:app",
    "runtime_env": {"env_vars": {"A": "secret"}},
    "deployments": [
        {"name": "Ingress", "num_replicas": 2},
        {"name": "Encode", "user_config": {"bundle": URI}, "ray_actor_options": {"num_cpus": 1}},
    ],
}
OTHER = {"name": "other", "import_path": "a:b"}


def details() -> dict[str, Any]:
    """As Serve tells it: `Decode` has its bundle from the code, the file does not list it."""
    configs = {"Ingress": None, "Encode": {"bundle": URI}, "Decode": {"bundle": URI, "revision": "1"}}
    deployments = {name: {"deployment_config": {"user_config": config}} for name, config in configs.items()}
    return {
        "controller_info": {"pid": 1},
        "http_options": {"host": "127.0.0.1", "port": 8000},
        "proxy_location": "EveryNode",
        "applications": {
            "speech": {"deployed_app_config": copy.deepcopy(DEPLOYED), "deployments": deployments},
            "other": {"deployed_app_config": OTHER, "deployments": {}},
            "imperative": {"deployed_app_config": None, "deployments": {}},
        },
    }


def test_only_the_stages_revision_changes() -> None:
    config = revised(details(), "speech", URI, "7")
    speech, other = config.pop("applications")
    assert config == {"http_options": {"host": "127.0.0.1", "port": 8000}, "proxy_location": "EveryNode"}
    assert other == OTHER
    deployments = speech.pop("deployments")
    assert speech == {key: value for key, value in DEPLOYED.items() if key != "deployments"}
    assert deployments == [
        DEPLOYED["deployments"][0],
        DEPLOYED["deployments"][1] | {"user_config": {"bundle": URI, "revision": "7"}},
        {"name": "Decode", "user_config": {"bundle": URI, "revision": "7"}},
    ]


@pytest.mark.parametrize(
    ("application", "bundle", "message"),
    [
        ("speach", URI, r"no application 'speach' \(there is: speech, other, imperative\)"),
        ("imperative", URI, "was not deployed from a file"),
        ("speech", "models:/x@champion", "serves models:/paluku@champion, not models:/x@champion"),
        ("other", URI, "serves no bundle"),
    ],
)
def test_what_cannot_be_reloaded_is_said(application: str, bundle: str, message: str) -> None:
    with pytest.raises(ServiceError, match=message):
        revised(details(), application, bundle, "7")


def test_a_dashboard_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ServiceError, match=r"Serve at http://127\.0\.0\.1:9 does not reload"):
        reload("http://127.0.0.1:9", "", "speech", URI, "7")


def test_an_application_that_never_serves_it_is_said() -> None:
    with pytest.raises(ServiceError, match="serves nothing after 0 s, not abc"):
        wait_served("http://127.0.0.1:9", "abc", timeout_s=0)
