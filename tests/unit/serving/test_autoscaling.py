import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.config import AutoscalingPolicy

from paluku.config import resolve
from paluku.errors import ConfigError
from paluku.serving.autoscaling import Autoscaling, SeatsPolicy

POLICY = SeatsPolicy(up_occupancy=0.7, down_occupancy=0.5)


def context(used: list[float], target: int | None = None, running: int | None = None, **more: Any) -> Any:
    """As Serve's AutoscalingContext, of replicas of ten seats each; the newest sample counts."""
    running = len(used) if running is None else running
    metrics: dict[str, list[float]] = {"seats_used": used, "seats": [10] * len(used)} | more
    raw = {
        name: {
            f"replica{n}": [
                SimpleNamespace(timestamp=0.0, value=99.0),
                SimpleNamespace(timestamp=1.0, value=v),
            ]
            for n, v in enumerate(values)
        }
        for name, values in metrics.items()
    }
    return SimpleNamespace(
        raw_metrics=raw,
        current_num_replicas=running,
        target_num_replicas=running if target is None else target,
    )


@pytest.mark.parametrize(
    ("used", "wanted"),
    [
        ([0], 1),
        ([7], 1),  # 70 %
        ([8], 2),
        ([10], 2),
        ([7, 7], 2),
        ([10, 10], 3),  # 20 / 7
        ([8, 7, 7], 4),
    ],
)
def test_it_grows_when_more_than_the_share_is_used(used: list[float], wanted: int) -> None:
    assert POLICY(context(used)) == (wanted, {})


@pytest.mark.parametrize(
    ("used", "wanted"),
    [
        ([6, 0], 2),  # one replica would be at 60 %: it stays
        ([5, 0], 1),
        ([3, 3, 3], 2),  # 9 users: two replicas at 45 %
        ([4, 4, 4], 3),  # 12: two would be at 60 %
        ([0, 0, 0], 1),
        ([1, 1, 1, 1, 1, 1], 2),
    ],
)
def test_it_shrinks_only_to_where_those_used_have_room(used: list[float], wanted: int) -> None:
    assert POLICY(context(used)) == (wanted, {})


def test_no_number_of_users_makes_it_go_to_and_fro() -> None:
    for users in range(41):
        for replicas in range(1, 6):
            wanted, _ = POLICY(context([users / replicas] * replicas))
            again, _ = POLICY(context([users / wanted] * wanted))
            assert again == wanted, (users, replicas)


@pytest.mark.parametrize("pressed", [{"refused": [0, 1]}, {"late_ticks": [2, 2]}])
def test_refusals_and_late_ticks_add_one_at_once(pressed: dict[str, list[float]]) -> None:
    assert POLICY(context([6, 6], **pressed)) == (3, {})
    assert POLICY(context([4, 4], **pressed)) == (3, {})


def test_a_stage_without_sessions_is_not_what_refuses_them() -> None:
    assert POLICY(context([1, 1], refused=[5, 5])) == (1, {})


def test_one_is_added_at_a_time_while_it_starts() -> None:
    assert POLICY(context([6, 6], target=3, running=2, refused=[1, 1])) == (3, {})


def test_a_replica_that_has_not_reported_yet_is_no_reason_to_shrink() -> None:
    assert POLICY(context([1], target=3, running=3)) == (3, {})


def test_without_any_report_nothing_changes() -> None:
    assert POLICY(context([], target=2, running=2)) == (2, {})
    assert POLICY(SimpleNamespace(raw_metrics=None, target_num_replicas=2)) == (2, {})  # type: ignore[arg-type]


def test_serve_is_given_the_settings() -> None:
    given = Autoscaling(min_replicas=2, max_replicas=5, downscale_delay_s=9, up_occupancy=0.8).to_serve()
    assert (given.min_replicas, given.max_replicas) == (2, 5)
    assert (given.upscale_delay_s, given.downscale_delay_s) == (0, 9)
    assert isinstance(given.policy, AutoscalingPolicy)
    assert given.policy.policy_kwargs == {"up_occupancy": 0.8, "down_occupancy": 0.5}


def test_the_policy_runs_where_this_package_is_not() -> None:
    given = Autoscaling().to_serve().policy
    code = (
        "import sys; sys.modules['paluku'] = None; import types, pickle;"
        "policy = pickle.loads(sys.stdin.buffer.read())(up_occupancy=.7, down_occupancy=.5);"
        "print(policy(types.SimpleNamespace(raw_metrics={}, target_num_replicas=3)))"
    )
    pickled = given.get_serialized_policy_def()
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, input=pickled, capture_output=True, check=False)
    assert done.stdout.strip() == b"(3, {})", done.stderr.decode()[-500:]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"min_replicas": 5, "max_replicas": 2}, "min_replicas 5 is above max_replicas 2"),
        ({"down_occupancy": 0.7}, "must be below up_occupancy"),
        ({"target": 1}, "unknown key 'target'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resolve(Autoscaling, values, "here")
