import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.errors import CorpusError
from paluku.tokens.batches import Sizes, crop_starts, token_batch
from tests.fakes.tokens import TEXT, K, V, token_row

SIZES = Sizes(K, V, TEXT)


def test_crops_and_padding_are_where_they_belong() -> None:
    rows = [token_row(1, 9, "train"), token_row(2, 3, "train")]
    batch = token_batch(rows, [4, 0], 5, SIZES)
    assert batch.valid.int().tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    codes = torch.from_numpy(rows[0]["agent_codes"]).reshape(K, 9)
    assert torch.equal(batch.agent_codes[0], codes[:, 4:].long())
    assert torch.equal(batch.user_codes[1, :, :3].flatten(), torch.from_numpy(rows[1]["user_codes"]).long())
    assert torch.equal(batch.text[0], torch.from_numpy(rows[0]["text"][4:]).long())
    assert not batch.agent_codes[1, :, 3:].any()
    assert not batch.text[1, 3:].any()
    assert batch.voice.tolist() == [1, 2]
    assert batch.style.tolist() == [1, 2]


@settings(deadline=None)
@given(frames=st.integers(1, 20), seed=st.integers(0, 9), first=st.integers(0, 1000))
def test_a_crop_is_as_full_as_it_can_be_and_depends_on_its_own_position_alone(
    frames: int, seed: int, first: int
) -> None:
    rows = [token_row(n, 4 + 3 * n, "train") for n in range(5)]
    starts = crop_starts(rows, frames, seed, first)
    assert all(0 <= s <= max(0, row["num_frames"] - frames) for s, row in zip(starts, rows, strict=True))
    assert starts[2:] == crop_starts(rows[2:], frames, seed, first + 2)


def test_crops_reach_every_place() -> None:
    rows = [token_row(0, 8, "train")] * 200
    assert set(crop_starts(rows, 5, 0, 0)) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"agent_codes": [0] * (4 * K + 1)},
            "agent_codes has 13 codes for 4 frames, the model has 3 codebooks",
        ),
        ({"user_codes": [V] * 4 * K}, "user_codes goes from 12 to 12, the model takes 0 to 11"),
        ({"text": [0, 0, -1, 0]}, "text goes from -1 to 0"),
        ({"voice": "nobody"}, "voice 'nobody' is none of arjun"),
        ({"style": "bored"}, "style 'bored' is none of neutral"),
    ],
)
def test_tokens_that_do_not_fit_the_model_are_refused(change: dict, message: str) -> None:
    row = token_row(7, 4, "train") | change
    with pytest.raises(CorpusError, match=f"dialogue-7: {message}"):
        token_batch([row], [0], 4, SIZES)
