from paluku.serving.config import ServingConfig
from paluku.units import FRAME_RATE_HZ


def test_a_hanging_stage_is_given_up_before_the_clients_sound_overflows() -> None:
    limits = ServingConfig()
    assert limits.step_timeout_s < limits.max_waiting_frames / FRAME_RATE_HZ
