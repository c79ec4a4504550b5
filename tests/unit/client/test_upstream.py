"""What is said, over the connections it takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.client.upstream import WINDOW_FRAMES, Sound, Upstream
from paluku.errors import ServiceError
from paluku.protocol.messages import End, Forget, Mark

FRAME_S = 0.04


def spoken(frames: int) -> Upstream:
    upstream = Upstream(FRAME_S)
    for number in range(frames):
        assert upstream.put(bytes([number % 256])) == number
    return upstream


def all_of(upstream: Upstream) -> list[object]:
    taken = []
    while (item := upstream.take()) is not None:
        taken.append(item.number if isinstance(item, Sound) else item)
    return taken


def test_what_is_said_goes_out_in_order() -> None:
    upstream = spoken(1)
    upstream.control(Mark("a"))
    upstream.put(b"")
    upstream.control(End())
    assert all_of(upstream) == [0, Mark("a"), 1, End()]
    assert upstream.take() is None


def test_no_more_is_under_way_than_the_server_takes_at_once() -> None:
    upstream = spoken(WINDOW_FRAMES + 5)
    assert all_of(upstream) == list(range(WINDOW_FRAMES))
    upstream.replied = 2
    assert all_of(upstream) == [WINDOW_FRAMES, WINDOW_FRAMES + 1]


def test_a_resumed_connection_gets_the_sound_again_from_where_the_server_asks() -> None:
    upstream = spoken(5)
    all_of(upstream)
    upstream.put(b"")  # spoken while there was no connection
    upstream.resumed(3, 4)
    assert all_of(upstream) == [3, 4, 5]


def test_marks_without_an_echo_and_the_end_are_said_again_in_their_place() -> None:
    upstream = spoken(1)
    upstream.control(Mark("echoed"))
    upstream.control(Mark("lost"))
    upstream.control(Forget())
    upstream.put(b"")
    upstream.control(End())
    all_of(upstream)
    upstream.marked("echoed")
    upstream.resumed(0, 0)
    assert all_of(upstream) == [0, Mark("lost"), 1, End()]
    upstream.resumed(1, 2)
    assert all_of(upstream) == [Mark("lost"), 1, End()]


@pytest.mark.parametrize("next_frame", [6, 1_000])
def test_sound_that_was_never_there_cannot_be_asked_for(next_frame: int) -> None:
    with pytest.raises(ServiceError, match=f"frame {next_frame}, frames 0 to 5 are kept"):
        spoken(5).resumed(next_frame, 0)


def test_old_sound_is_dropped_once_it_is_answered() -> None:
    upstream = spoken(0)
    for number in range(1_000):
        upstream.put(b"")
        upstream.take()
        upstream.replied = number + 1
    upstream.resumed(1_000 - 250, 1_000)  # ten seconds are kept
    with pytest.raises(ServiceError, match="are kept; start a new session"):
        upstream.resumed(1_000 - 252, 1_000)


def test_what_is_not_sent_is_never_dropped() -> None:
    assert len(spoken(2_000)._kept) == 2_000


@given(st.lists(st.sampled_from(["put", "take", "reply", "lose"]), max_size=60))
def test_every_connection_carries_a_stretch_without_a_gap(steps: list[str]) -> None:
    upstream, stretch = Upstream(FRAME_S), []
    for step in steps:
        if step == "put":
            upstream.put(b"")
        elif step == "reply" and stretch and upstream.replied <= stretch[-1]:
            upstream.replied += 1
        elif step == "lose":
            resumed_at = max(0, upstream.replied - 2)
            upstream.resumed(resumed_at, upstream.replied)
            stretch = []
        elif step == "take" and isinstance(sound := upstream.take(), Sound):
            assert not stretch or sound.number == stretch[-1] + 1
            stretch.append(sound.number)
    assert stretch == list(range(stretch[0], stretch[0] + len(stretch))) if stretch else True
