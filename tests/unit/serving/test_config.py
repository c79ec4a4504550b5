from pathlib import Path

import pytest

from paluku.config import resolve
from paluku.errors import ConfigError
from paluku.serving.config import LimitsConfig, SecurityConfig, ServingConfig
from paluku.units import FRAME_RATE_HZ


def test_a_hanging_stage_is_given_up_before_the_clients_sound_overflows() -> None:
    limits = ServingConfig()
    assert limits.step_timeout_s < limits.lone_step_timeout_s < limits.max_waiting_frames / FRAME_RATE_HZ


def test_a_seat_outlives_a_hanging_step_but_not_the_wait_for_its_client() -> None:
    config = ServingConfig()
    assert config.step_timeout_s < config.lease_s < config.grace_s


def test_what_a_crash_loses_fits_into_what_a_client_may_send_again() -> None:
    config = ServingConfig()
    assert config.snapshot_s < config.max_waiting_frames / FRAME_RATE_HZ


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"limits": {"sound_rat": 1}}, "unknown key 'limits.sound_rat'"),
        ({"limits": {"sound_rate": 0.9}}, "limits.sound_rate"),
        ({"security": {"keys_file": "keys"}}, "must be absolute"),
        ({"security": {"origins": ["example.org"]}}, "is no origin; write scheme and host"),
        ({"security": {"origins": ["https://example.org/"]}}, "is no origin"),
        ({"security": {"origins": ["https://*.example.org/x"]}}, "is no origin"),
        ({"admission_p99_share": 1.1}, "admission_p99_share"),
        ({"price_currency": "dollars"}, "price_currency"),
        ({"price_per_hour": -1}, "price_per_hour"),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resolve(ServingConfig, values, "serving")


def test_origins_are_as_a_browser_writes_them() -> None:
    config = resolve(
        ServingConfig, {"security": {"origins": ["https://App.Example.org", "http://localhost:8000"]}}, "x"
    )
    assert config.security.origins == ("https://app.example.org", "http://localhost:8000")


def test_the_page_on_security_names_every_setting() -> None:
    page = (Path(__file__).parents[3] / "docs" / "security.md").read_text(encoding="utf-8")
    settings = (*SecurityConfig.model_fields, *LimitsConfig.model_fields)
    assert [name for name in settings if name not in page] == []
