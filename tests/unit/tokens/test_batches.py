import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paluku.errors import CorpusError
from paluku.tokens.batches import Crop, Sizes, crop, token_batch
from tests.fakes.tokens import TEXT, K, V, token_row

SIZES = Sizes(K, V, TEXT)


def test_documents_lie_one_after_the_other() -> None:
    first, second, third = (token_row(n, frames, "train") for n, frames in ((1, 9), (2, 3), (3, 5)))
    batch = token_batch([[Crop(first, 4, 5)], [Crop(second, 0, 3), Crop(third, 1, 2)]], 6, SIZES)
    assert batch.document.tolist() == [[0, 0, 0, 0, 0, -1], [1, 1, 1, 2, 2, -1]]
    codes = torch.from_numpy(first["agent_codes"]).reshape(K, 9)
    assert torch.equal(batch.agent_codes[0, :, :5], codes[:, 4:].long())
    heard = torch.from_numpy(third["user_codes"]).reshape(K, 5)
    assert torch.equal(batch.user_codes[1, :, 3:5], heard[:, 1:3].long())
    for name, tokens in (("text", batch.text), ("user_text", batch.user_text)):
        assert tokens[1].tolist() == [*second[name].tolist(), *third[name][1:3].tolist(), 0]
    assert not batch.agent_codes[..., 5].any()
    assert batch.voice.tolist() == [1, 2, 3]
    assert batch.style.tolist() == [1, 2, 3]


@given(frames=st.integers(1, 20), limit=st.integers(2, 20), seed=st.integers(0, 9))
def test_a_crop_is_as_full_as_it_can_be(frames: int, limit: int, seed: int) -> None:
    row, start, length = crop(token_row(0, frames, "train"), limit, 0.5, np.random.default_rng(seed))
    assert length == min(frames, limit)
    assert 0 <= start <= row["num_frames"] - length


def test_crops_reach_every_place_and_begin_at_0_as_often_as_asked() -> None:
    random, row = np.random.default_rng(0), token_row(0, 8, "train")
    assert {crop(row, 5, 0.0, random).start for _ in range(100)} == {0, 1, 2, 3}
    assert {crop(row, 5, 1.0, random).start for _ in range(100)} == {0}
    fresh = sum(crop(row, 5, 0.6, random).start == 0 for _ in range(2000))
    assert fresh / 2000 == pytest.approx(0.6 + 0.4 / 4, abs=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"agent_codes": [0] * (4 * K + 1)},
            "agent_codes has 13 codes for 4 frames, the model has 3 codebooks",
        ),
        ({"user_codes": [V] * 4 * K}, "user_codes goes from 12 to 12, the model takes 0 to 11"),
        ({"text": [0, 0, -1, 0]}, "text goes from -1 to 0"),
        ({"user_text": [0, 0, TEXT, 0]}, "user_text goes from 0 to 20"),
        ({"user_text": None}, "have no user_text; extract them again"),
        ({"voice": "nobody"}, "voice 'nobody' is none of arjun"),
        ({"style": "bored"}, "style 'bored' is none of neutral"),
    ],
)
def test_tokens_that_do_not_fit_the_model_are_refused(change: dict, message: str) -> None:
    row = token_row(7, 4, "train") | change
    with pytest.raises(CorpusError, match=f"dialogue-7:? {message}"):
        token_batch([[Crop(row, 0, 4)]], 4, SIZES)
