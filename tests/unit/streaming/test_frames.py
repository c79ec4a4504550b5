import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paluku.streaming.frames import FrameBuffer, FrameOverflowError


def sound(samples: int) -> bytes:
    return np.arange(samples, dtype="<i2").tobytes()


@given(st.lists(st.integers(0, 1700), max_size=12))
def test_cutting_into_frames_keeps_every_sample_in_order(sizes: list[int]) -> None:
    whole = sound(sum(sizes))
    buffer, start, completed = FrameBuffer(640, 100), 0, 0
    for size in sizes:
        completed += buffer.push(whole[2 * start : 2 * (start + size)], 0.0)
        start += size
    frames = list(iter(buffer.pop, None))
    assert len(frames) == completed == sum(sizes) // 640
    assert [frame.number for frame in frames] == list(range(completed))
    assert b"".join(frame.pcm.tobytes() for frame in frames) == whole[: 1280 * completed]


def test_a_frame_has_arrived_with_its_last_byte() -> None:
    buffer = FrameBuffer(4, 10)
    buffer.push(sound(3), 1.0)
    buffer.push(sound(2), 2.0)
    buffer.push(sound(8), 3.0)
    assert [frame.arrived_s for frame in iter(buffer.pop, None)] == [2.0, 3.0, 3.0]


def test_an_odd_byte_waits_for_its_other_half() -> None:
    buffer = FrameBuffer(2, 10)
    assert buffer.push(b"\x01\x02\x03", 0.0) == 0
    assert buffer.push(b"\x04", 0.0) == 1
    frame = buffer.pop()
    assert frame is not None
    assert frame.pcm.tolist() == [0x0201, 0x0403]


def test_too_much_is_refused_whole_and_what_waits_stays() -> None:
    buffer = FrameBuffer(4, 2)
    buffer.push(sound(7), 0.0)
    with pytest.raises(FrameOverflowError, match="3 frames would wait, 2 may"):
        buffer.push(sound(5), 0.0)
    assert len(buffer) == 1
    assert buffer.push(sound(1), 0.0) == 1


def test_finishing_fills_a_started_frame_with_silence_once() -> None:
    buffer = FrameBuffer(4, 10)
    buffer.push(np.array([7], "<i2").tobytes(), 0.0)
    assert buffer.finish(1.0) == 1
    assert buffer.finish(1.0) == 0
    frame = buffer.pop()
    assert frame is not None
    assert frame.pcm.tolist() == [7, 0, 0, 0]
    assert buffer.pop() is None
