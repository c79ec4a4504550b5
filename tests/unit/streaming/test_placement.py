"""Worked examples of placement, and its laws: nothing over-full, every seat reachable, few lanes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.errors import SeatsExhausted
from paluku.streaming.placement import Candidate, Path, choose

BUNDLE = "b" * 64
TICK_S = 0.04


def candidate(name: str, seats: int = 4, used: int = 0, **facts: object) -> Candidate:
    base = Candidate(name, seats, used, step_p99_ms=None, is_leaving=False, bundles=(BUNDLE,))
    return base._replace(**facts)


def placed(stages: list[list[Candidate]], lanes: dict[Path, int] | None = None, **how: object) -> Path:
    return choose(stages, lanes or {}, BUNDLE, TICK_S, **{"moving": False, **how})  # pyright: ignore


def test_the_emptiest_replica_is_chosen() -> None:
    assert placed([[candidate("a", used=2), candidate("b", used=1), candidate("c", used=3)]]) == ("b",)


def test_empty_means_the_share_of_its_own_seats() -> None:
    assert placed([[candidate("small", seats=2, used=1), candidate("large", seats=8, used=3)]]) == ("large",)


def test_a_lane_in_use_is_shared() -> None:
    stages = [
        [candidate("e", seats=16, used=2)],
        [candidate("c1", used=1), candidate("c2", used=1)],
        [candidate("d1", seats=8, used=1), candidate("d2", seats=8, used=1)],
    ]
    assert placed(stages, {("e", "c1", "d2"): 1, ("e", "c2", "d1"): 1}) == ("e", "c1", "d2")


def test_the_stage_with_the_least_room_decides() -> None:
    stages = [
        [candidate("e1", used=0), candidate("e2", used=1)],
        [candidate("c1", used=3), candidate("c2", used=2)],
    ]
    # By Encode alone it would be e1; the lane of the emptier Converse has e2.
    assert placed(stages, {("e2", "c2"): 2}) == ("e2", "c2")


def test_a_full_partner_is_replaced_by_one_in_few_lanes() -> None:
    stages = [
        [candidate("a", seats=8, used=5), candidate("b", seats=8, used=6)],
        [candidate("x", used=4), candidate("y", used=2), candidate("z", used=3)],
    ]
    lanes = {("a", "x"): 4, ("b", "y"): 2, ("b", "z"): 3, ("a", "nowhere"): 0}
    assert placed(stages, {**lanes, ("c", "y"): 1}) == ("a", "z")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (candidate("a", used=4), "all 4 seats are taken"),
        (candidate("a", is_leaving=True), "no replica of a stage answers"),
        (candidate("a", bundles=("old",)), "no replica of a stage holds bundle bbbbbbbbbbbb"),
        (candidate("a", used=1, step_p99_ms=28.1), "too busy"),
        (candidate("a", seats=0), "all 0 seats are taken"),
    ],
)
def test_a_stage_without_room_refuses(other: Candidate, why: str) -> None:
    with pytest.raises(SeatsExhausted, match=why) as refused:
        placed([[candidate("free")], [other]], retry_s=2.5)
    assert refused.value.retry_s == 2.5
    assert placed([[candidate("free")], [other, candidate("z")]]) == ("free", "z")


def test_no_replica_at_all_refuses() -> None:
    with pytest.raises(SeatsExhausted, match="no replica of a stage answers"):
        placed([[candidate("a")], []])


def test_less_than_seventy_percent_of_the_tick_is_not_too_busy() -> None:
    assert placed([[candidate("a", used=1, step_p99_ms=27.9)]]) == ("a",)


def test_how_busy_is_too_busy_can_be_said() -> None:
    assert placed([[candidate("a", used=1, step_p99_ms=35.0)]], busy_share=0.9) == ("a",)
    with pytest.raises(SeatsExhausted, match="too busy"):
        placed([[candidate("a", used=1, step_p99_ms=21.0)]], busy_share=0.5)


def test_where_nobody_sits_slow_steps_of_before_turn_nobody_away() -> None:
    slow = candidate("a", step_p99_ms=90.0)
    assert placed([[slow]]) == ("a",)
    assert placed([[slow, candidate("b", used=3, step_p99_ms=10.0)]]) == ("b",), "as long as another has time"


def test_a_move_is_let_in_however_busy_it_is_but_not_without_a_seat() -> None:
    assert placed([[candidate("a", used=1, step_p99_ms=39.0)]], moving=True) == ("a",)
    with pytest.raises(SeatsExhausted):
        placed([[candidate("a", used=4)]], moving=True)


def test_a_preferred_path_wins_while_all_of_it_can_be_had() -> None:
    stages = [[candidate("a"), candidate("b", used=3)], [candidate("x"), candidate("y", used=3)]]
    assert placed(stages, preferred=("b", "y")) == ("b", "y")
    assert placed(stages, preferred=("b", "gone")) == ("a", "x")
    assert placed(stages, preferred=("b",)) == ("a", "x")
    stages[0][1] = candidate("b", used=3, is_leaving=True)
    assert placed(stages, preferred=("b", "y")) == ("a", "x")


class House:
    """Stages with their sessions, as a service counts them."""

    def __init__(self, seats: list[list[int]]) -> None:
        self.seats = [{f"{stage}-{i}": n for i, n in enumerate(row)} for stage, row in enumerate(seats)]
        self.used: Counter[str] = Counter()
        self.lanes: Counter[Path] = Counter()

    def enter(self) -> None:
        path = placed(
            [[candidate(name, n, self.used[name]) for name, n in row.items()] for row in self.seats],
            dict(self.lanes),
        )
        self.used.update(path)
        self.lanes[path] += 1

    def leave(self, which: int) -> None:
        path = list(self.lanes.elements())[which % self.lanes.total()]
        self.used.subtract(path)
        self.lanes[path] -= 1

    @property
    def num_lanes(self) -> int:
        return sum(sessions > 0 for sessions in self.lanes.values())


HOUSES = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=3)


@given(HOUSES, st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=40))
def test_nothing_is_overfull_and_every_seat_is_reachable(
    seats: list[list[int]], moves: list[int | None]
) -> None:
    house = House(seats)
    room = min(sum(row) for row in seats)
    for move in [*moves, *[None] * (room + 1)]:
        if move is not None and house.lanes.total():
            house.leave(move)
        elif house.lanes.total() < room:
            house.enter()
        else:
            with pytest.raises(SeatsExhausted):
                house.enter()
        assert all(0 <= house.used[name] <= n for row in house.seats for name, n in row.items())
    assert house.lanes.total() == room


@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 3),
    st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=60),
)
def test_equal_stages_pair_off(replicas: int, seats: int, stages: int, moves: list[int | None]) -> None:
    """As many lanes as replicas in use, whoever comes and goes: it cannot be done with fewer."""
    house = House([[seats] * replicas] * stages)
    for move in moves:
        if move is not None and house.lanes.total():
            house.leave(move)
        elif house.lanes.total() < replicas * seats:
            house.enter()
        assert house.num_lanes == sum(house.used[name] > 0 for name in house.seats[0])
