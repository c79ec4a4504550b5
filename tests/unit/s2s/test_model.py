import pytest
import torch
from pydantic import ValidationError

from paluku.errors import ConfigError
from paluku.s2s.losses import stream_sums
from paluku.s2s.model import DepthConfig, S2SConfig, S2SModel, SummedEmbedding
from paluku.tokens.text import CharTokenizer
from tests.fakes.tokens import TEXT, TINY_S2S, K, V

B, T = 2, 12


@pytest.fixture(scope="module")
def model() -> S2SModel:
    torch.manual_seed(0)
    model = S2SModel(TINY_S2S).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5 if weight.dim() > 1 else 1)  # fresh weights are so small that little shows
    return model


def tokens(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(size: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, size, shape, generator=generator)

    return {
        "agent_codes": draw(V, B, K, T),
        "user_codes": draw(V, B, K, T),
        "text": draw(TEXT, B, T),
        "voice": draw(4, B),
        "style": draw(9, B),
    }


def moved(model: S2SModel, change: dict[str, torch.Tensor]) -> torch.Tensor:
    """Which streams (text first) at which positions say something else: `[1 + K, T]`."""
    with torch.inference_mode():
        one, other = model(**tokens()), model(**(tokens() | change))
    text = (one.text - other.text).abs().amax(dim=(0, 2))
    codes = (one.codes - other.codes).abs().amax(dim=(0, 3))
    return torch.cat((text[None], codes)) > 1e-6


@pytest.mark.parametrize("at", [0, 5, T - 1])
def test_a_user_frame_is_heard_at_once_by_every_stream_and_never_before(model: S2SModel, at: int) -> None:
    user = tokens()["user_codes"]
    user[:, :, at] = (user[:, :, at] + 1) % V
    change = moved(model, {"user_codes": user})
    assert not change[:, :at].any()
    assert change[:, at].all()


@pytest.mark.parametrize("at", [0, 5, T - 2])
def test_our_text_is_known_to_the_codes_of_its_position_and_to_the_next(model: S2SModel, at: int) -> None:
    text = tokens()["text"]
    text[:, at] = (text[:, at] + 1) % TEXT
    change = moved(model, {"text": text})
    assert not change[:, :at].any()
    assert change[:, at].tolist() == [False, True, True, True]
    assert change[:, at + 1].all()


@pytest.mark.parametrize("k", range(K))
def test_our_code_is_known_to_the_later_codes_of_its_position_and_to_the_next(
    model: S2SModel, k: int
) -> None:
    agent, frame = tokens()["agent_codes"], 5
    agent[:, k, frame] = (agent[:, k, frame] + 1) % V
    change, position = moved(model, {"agent_codes": agent}), frame + (0 if k == 0 else 1)
    assert not change[:, :position].any()
    assert change[:, position].tolist() == [False, *[other > k for other in range(K)]]
    assert change[:, position + 1].all()


@pytest.mark.parametrize("name", ["voice", "style"])
def test_voice_and_style_are_heard_from_the_first_frame_on(model: S2SModel, name: str) -> None:
    assert moved(model, {name: (tokens()[name] + 1) % 4}).all()


def test_every_weight_learns(model: S2SModel) -> None:
    batch = tokens()
    logits = model(**batch)
    sums, _ = stream_sums(
        logits, batch["text"], model.delayed(batch["agent_codes"]), torch.ones(B, T, dtype=torch.bool)
    )
    sums.sum().backward()
    silent = [name for name, weight in model.named_parameters() if not weight.grad.any()]
    model.zero_grad()
    assert silent == []


def test_a_summed_embedding_reads_each_stream_s_own_rows() -> None:
    embedding = SummedEmbedding([2, 3], 1)
    with torch.no_grad():
        embedding.table.copy_(torch.tensor([[1.0], [2.0], [10.0], [20.0], [40.0]]))
    assert embedding(torch.tensor([[0, 0], [1, 2]])).tolist() == [[11.0], [42.0]]


def test_the_default_model_takes_the_tokenizer_s_ids() -> None:
    assert S2SConfig().text_vocab == CharTokenizer().vocab_size


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 20, "heads": 3}, "heads is 3; a width of 20 has no even share"),
        ({"depth": DepthConfig(dim=6, heads=2)}, "depth.heads is 2; a width of 6 has no even share"),
    ],
)
def test_heads_that_do_not_divide_the_width_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        S2SConfig(**values)


def test_a_config_read_back_is_the_same() -> None:
    assert S2SConfig.from_json(TINY_S2S.to_json(), "config.json") == TINY_S2S
    with pytest.raises(ConfigError, match="unknown key"):
        S2SConfig.from_json('{"codebooks": 8}', "config.json")
