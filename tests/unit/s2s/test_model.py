import pytest
import torch
from pydantic import ValidationError

from paluku.errors import ConfigError
from paluku.nn.embedding import SummedEmbedding
from paluku.s2s.model import DepthConfig, HearingConfig, S2SConfig, S2SModel
from tests.fakes.s2s import HEARING
from tests.fakes.tokens import TEXT, K, V
from tests.fakes.tokens import TINY_S2S as TINY

B, T = 2, 12
DOCUMENT = torch.arange(B)[:, None].expand(B, T)


def tiny(config: S2SConfig = TINY) -> S2SModel:
    torch.manual_seed(0)
    model = S2SModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5 if weight.dim() > 1 else 1)  # fresh weights are so small that little shows
    return model


@pytest.fixture(scope="module")
def model() -> S2SModel:
    return tiny()


def tokens(model: S2SModel, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)

    def draw(size: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, size, shape, generator=generator)

    return {
        "agent_codes": draw(V, B, K, T),
        "user_codes": draw(V, B, K, T),
        "text": draw(TEXT, B, T),
        "document": DOCUMENT,
        "rows": model.conditioning.rows(draw(4, B), draw(9, B)),
    }


def moved(model: S2SModel, change: dict) -> torch.Tensor:
    """Which streams (text, the user's text, codes) at which positions say something else: `[2 + K, T]`."""
    given = tokens(model)
    with torch.inference_mode():
        one, other = model(**given), model(**(given | change))
    texts = [(one[n] - other[n]).abs().amax(dim=(0, 2)) for n in (0, 1)]
    codes = (one.codes - other.codes).abs().amax(dim=2).view(B, T, K).amax(dim=0).T
    return torch.cat((torch.stack(texts), codes)) > 1e-6


@pytest.mark.parametrize("at", [0, 5, T - 1])
def test_a_user_frame_is_heard_at_once_by_every_stream_and_never_before(model: S2SModel, at: int) -> None:
    user = tokens(model)["user_codes"]
    user[:, :, at] = (user[:, :, at] + 1) % V
    change = moved(model, {"user_codes": user})
    assert not change[:, :at].any()
    assert change[:, at].all()


@pytest.mark.parametrize(("k", "late"), [(0, 0), (1, 1), (2, 1)])
def test_moshi_hears_acoustic_codes_a_frame_late_and_nothing_of_the_first_frame(k: int, late: int) -> None:
    model = tiny(TINY.model_copy(update={"user_delay": 1}))
    for frame in (0, 5):
        user = tokens(model)["user_codes"]
        user[:, k, frame] = (user[:, k, frame] + 1) % V
        change = moved(model, {"user_codes": user})
        assert not change[:, : frame + late].any()
        assert change[:, frame + late].all() == (frame > 0)
        assert change.any() == (frame > 0)


@pytest.mark.parametrize("user_delay", [None, 0, 1, 2])
def test_a_stream_hears_what_the_whole_sequence_hears(user_delay: int | None) -> None:
    model = tiny(TINY.model_copy(update={"user_delay": user_delay}))
    user = tokens(model)["user_codes"]
    heard = model.heard(user, torch.arange(T).expand(B, T))
    earlier = torch.zeros(B, user_delay or 0, K - 1, dtype=torch.int64)
    for t in range(T):
        lived = torch.full((B,), t)
        assert torch.equal(model.heard_now(user[:, :, t], earlier, lived), heard[:, :, t])
        earlier = torch.cat((earlier, user[:, None, 1:, t]), dim=1)[:, 1:] if user_delay else earlier


@pytest.mark.parametrize("at", [0, 5, T - 2])
def test_our_text_is_known_to_the_codes_of_its_position_and_to_the_next(model: S2SModel, at: int) -> None:
    text = tokens(model)["text"]
    text[:, at] = (text[:, at] + 1) % TEXT
    change = moved(model, {"text": text})
    assert not change[:, :at].any()
    assert change[:, at].tolist() == [False, False, True, True, True]
    assert change[:, at + 1].all()


@pytest.mark.parametrize("k", range(K))
def test_our_code_is_known_to_the_later_codes_of_its_position_and_to_the_next(
    model: S2SModel, k: int
) -> None:
    agent, frame = tokens(model)["agent_codes"], 5
    agent[:, k, frame] = (agent[:, k, frame] + 1) % V
    change, position = moved(model, {"agent_codes": agent}), frame + (0 if k == 0 else 1)
    assert not change[:, :position].any()
    assert change[:, position].tolist() == [False, False, *[other > k for other in range(K)]]
    assert change[:, position + 1].all()


def test_codes_of_ours_that_are_not_seen_change_no_text(model: S2SModel) -> None:
    """Those seen at positions from 8 on: frames before the seventh were not, of any codebook's delay."""
    given = tokens(model)
    late = (torch.arange(T) >= 8).expand(B, T)
    for frame, is_seen in ((3, False), (T - 3, True)):
        agent = given["agent_codes"].clone()
        agent[:, :, frame] = (agent[:, :, frame] + 1) % V
        with torch.inference_mode():
            one, other = (
                model(**(given | {"agent_codes": codes}), sees_own=late)
                for codes in (given["agent_codes"], agent)
            )
        assert bool((one.text != other.text).any()) is is_seen


def test_speaker_and_style_are_heard_from_the_first_frame_on(model: S2SModel) -> None:
    rows = tokens(model)["rows"]
    assert moved(model, {"rows": rows._replace(speaker=rows.speaker.roll(1, dims=1))}).all()
    assert moved(model, {"rows": rows._replace(style=(rows.style + 1) % 9)}).all()


@pytest.mark.parametrize("hearing", [None, HEARING])
def test_every_weight_learns(hearing: HearingConfig | None) -> None:
    model = tiny(TINY.model_copy(update={"hearing": hearing}))
    batch = tokens(model)
    batch["rows"] = batch["rows"]._replace(
        has_speaker=torch.tensor([True, False]), has_style=torch.tensor([False, True])
    )
    sum(part.square().sum() for part in model(**batch) if part is not None).backward()
    silent = [
        name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    # What tells the transcript is trained with the rest of hearing, before (`training.hearing_loop`).
    assert [name for name in silent if not name.startswith("hearing.tokens.")] == []


def test_a_model_without_the_user_s_text_has_no_weights_for_it() -> None:
    model = tiny(TINY.model_copy(update={"user_text": False}))
    assert model(**tokens(model)).user_text is None
    assert not [name for name in model.state_dict() if "user_text" in name]


def test_a_summed_embedding_reads_each_stream_s_own_rows() -> None:
    embedding = SummedEmbedding([2, 3], 1)
    with torch.no_grad():
        embedding.table.copy_(torch.tensor([[1.0], [2.0], [10.0], [20.0], [40.0]]))
    assert embedding(torch.tensor([[0, 0], [1, 2]])).tolist() == [[11.0], [42.0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 20, "heads": 3}, "heads is 3; a width of 20 has no even share"),
        ({"depth": DepthConfig(dim=6, heads=2)}, "depth.heads is 2; a width of 6 has no even share"),
        ({"speaker_dim": 3}, "greater than or equal to 4"),
        ({"hears_transcript": True, "user_text": False}, "hears_transcript needs the transcript"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        S2SConfig(**values)


def test_a_config_read_back_is_the_same() -> None:
    assert S2SConfig.from_json(TINY.to_json(), "config.json") == TINY
    with pytest.raises(ConfigError, match="unknown key"):
        S2SConfig.from_json('{"codebooks": 8}', "config.json")
