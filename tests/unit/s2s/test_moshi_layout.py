"""Moshi's weights in our model say what `transformers`' Moshi says, and go back as they came."""

import pytest
import torch
from torch import Tensor

from paluku.errors import CheckpointError
from paluku.s2s.config import S2SConfig
from paluku.s2s.model import Logits, S2SModel
from paluku.s2s.moshi_layout import from_theirs, moshi_7b, named, swap_padding, to_moshi, to_transformers
from tests.fakes.moshi import SIZES, TEXT, K, V, moshi_tensors, transformers_moshi

B, T = 2, 20


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return transformers_moshi()


@pytest.fixture(scope="module")
def theirs(reference: torch.nn.Module) -> dict[str, Tensor]:
    return moshi_tensors(reference)


@pytest.fixture(scope="module")
def ours(theirs: dict[str, Tensor]) -> S2SModel:
    model = S2SModel(SIZES)
    model.load_state_dict(from_theirs(theirs, SIZES, "seeded"))
    return model.eval().requires_grad_(False)


def session() -> tuple[Tensor, Tensor, Tensor]:
    """Our codes, the user's, and text in Moshi's numbers with both special tokens in it."""
    generator = torch.Generator().manual_seed(0)
    agent, user = torch.randint(0, V, (2, B, K, T), generator=generator)
    text = torch.randint(0, TEXT, (B, T), generator=generator)
    text[:, 3], text[:, 4], text[:, 5] = 3, 0, 3
    return agent, user, text


def moshi_inputs(agent: Tensor, user: Tensor, text: Tensor) -> Tensor:
    """What Moshi's temporal transformer is given, `[B, 1 + 2 K, T]`, by package moshi's rule (LMGen).

    A token of delay `d` is written `d` places late, our own one place after it was decided; a stream's
    places up to its delay hold its initial token.
    """
    streams = torch.full((B, 1 + 2 * K, T), V)
    streams[:, 0] = TEXT
    streams[:, 0, 1:] = text[:, :-1]
    for k in range(K):
        d = min(k, 1)
        streams[:, 1 + k, 1 + d :] = agent[:, k, : T - 1 - d]
        streams[:, 1 + K + k, 1 + d :] = user[:, k, 1 : T - d]
    return streams


def said(model: S2SModel) -> Logits:
    agent, user, text = session()
    rows = model.conditioning.rows(torch.tensor([0, 1]), torch.tensor([2, 3]))
    document = torch.arange(B)[:, None].expand(B, T)
    return model(agent, user, swap_padding(text), document, rows)


def test_text_logits_of_the_temporal_transformer_are_moshi_s(
    reference: torch.nn.Module, ours: S2SModel
) -> None:
    streams = moshi_inputs(*session())
    expected = reference(
        input_ids=streams[:, 0],
        moshi_audio_codes=streams[:, 1 : 1 + K],
        user_audio_codes=streams[:, 1 + K :],
        use_cache=False,
    ).logits
    actual = said(ours).text[..., swap_padding(torch.arange(TEXT))]
    assert float(expected.std()) > 0.3
    assert float((actual - expected).abs().max()) < 1e-4


def test_code_logits_of_the_depth_transformer_are_moshi_s(reference: torch.nn.Module, ours: S2SModel) -> None:
    agent, user, text = session()
    streams = moshi_inputs(agent, user, text)
    hidden = reference(
        input_ids=streams[:, 0],
        moshi_audio_codes=streams[:, 1 : 1 + K],
        user_audio_codes=streams[:, 1 + K :],
        use_cache=False,
    ).last_hidden_state
    # What is decided at a place: its text, and our codes, the acoustic ones of the frame before.
    decided = torch.full((B, T, K), V)
    decided[..., 0] = text
    for k in range(K - 1):
        decided[:, min(k, 1) :, 1 + k] = agent[:, k, : T - min(k, 1)]
    expected = reference.depth_decoder(
        input_ids=decided.flatten(0, 1),
        last_hidden_state=hidden.flatten(0, 1)[:, None],
        attention_mask=torch.ones(B * T, K),
        use_cache=False,
    ).logits
    assert float(expected.std()) > 0.3
    assert float((said(ours).codes - expected).abs().max()) < 1e-4


def test_the_way_there_and_back_is_the_identity_in_both_layouts(theirs: dict[str, Tensor]) -> None:
    weights = from_theirs(theirs, SIZES, "seeded")
    same(to_transformers(weights, SIZES), theirs)
    package = to_moshi(weights, SIZES)
    same(from_theirs(package, SIZES, "seeded"), weights)
    same(to_moshi(from_theirs(package, SIZES, "seeded"), SIZES), package)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())


def test_names_and_shapes_are_the_published_file_s(theirs: dict[str, Tensor]) -> None:
    package = to_moshi(from_theirs(theirs, SIZES, "seeded"), SIZES)
    shapes = {name: list(tensor.shape) for name, tensor in package.items()}
    D, d = SIZES.dim, SIZES.depth.dim
    assert (
        shapes.items()
        >= {
            "emb.7.weight": [V + 1, D],
            "text_emb.weight": [TEXT + 1, D],
            "text_linear.weight": [TEXT, D],
            "out_norm.alpha": [1, 1, D],
            "transformer.layers.1.norm2.alpha": [1, 1, D],
            "transformer.layers.1.self_attn.in_proj_weight": [3 * D, D],
            "transformer.layers.1.self_attn.out_proj.weight": [D, D],
            "transformer.layers.0.gating.linear_in.weight": [80, D],
            "transformer.layers.0.gating.linear_out.weight": [D, 40],
            "depformer_in.3.weight": [d, D],
            "depformer_emb.2.weight": [V + 1, d],
            "depformer_text_emb.weight": [TEXT + 1, d],
            "depformer.layers.1.norm1.alpha": [1, 1, d],
            "depformer.layers.1.self_attn.in_proj_weight": [K * 3 * d, d],
            "depformer.layers.1.self_attn.out_proj.weight": [K * d, d],
            "depformer.layers.1.gating.3.linear_in.weight": [48, d],
            "depformer.layers.1.gating.3.linear_out.weight": [d, 24],
            "linears.3.weight": [V, d],
        }.items()
    )
    assert len(shapes) == 8 + 2 + 1 + 2 * 6 + 4 + 3 + 1 + 2 * (4 + 2 * K) + 4


def test_moshi_s_streams_and_tokens_keep_their_meaning(theirs: dict[str, Tensor]) -> None:
    weights = from_theirs(theirs, SIZES, "seeded")
    table, rows = weights["embedding.table"], V + 1
    text = table[K * rows : K * rows + TEXT + 1]
    assert torch.equal(table[rows : 2 * rows], theirs[f"embed_tokens.{K + 1}.weight"]), "the user's second"
    assert torch.equal(table[-rows:], theirs[f"embed_tokens.{K - 1}.weight"]), "our last"
    names = torch.tensor([3, 1, 2, 0, *range(4, TEXT + 1)])
    assert torch.equal(text, theirs["decoder.model.embed_tokens.weight"][names]), "padding is 0 here"


def test_today_s_package_splits_by_steps_what_the_file_holds_whole(theirs: dict[str, Tensor]) -> None:
    package = to_moshi(from_theirs(theirs, SIZES, "seeded"), SIZES)
    split = {name: x for name, x in package.items() if "self_attn" not in name}
    for name, x in package.items():
        prefix, _, kind = name.rpartition(".self_attn.")
        if prefix:
            parts = x.chunk(K if "depformer" in prefix else 1)
            side = "in" if kind == "in_proj_weight" else "out"
            split |= {f"{prefix}.self_attn.{side}_projs.{i}.weight": part for i, part in enumerate(parts)}
    same(named(split), package)


def test_conditions_change_nothing_until_they_are_trained(ours: S2SModel) -> None:
    agent, user, text = session()
    document = torch.arange(B)[:, None].expand(B, T)
    rows = ours.conditioning.rows(torch.tensor([3, 2]), torch.tensor([8, 0])).dropped()
    assert torch.equal(ours(agent, user, swap_padding(text), document, rows).text, said(ours).text)


def test_a_stream_of_moshi_is_its_whole_sequence(ours: S2SModel) -> None:
    hidden = torch.randn(3, SIZES.dim, generator=torch.Generator().manual_seed(1))
    codes = torch.randint(0, V, (3, K), generator=torch.Generator().manual_seed(2))
    text, depth, everyone = codes[:, 0], ours.depth, torch.ones(3, dtype=torch.bool)
    state, tokens = depth.transformer.init_state(3), [text, *codes.T]
    for k, expected in enumerate(depth(hidden, text, codes).unbind(1)):
        x = depth.projected(hidden)[:, k] + depth.embed(k, tokens[k])
        actual = depth.heads[k](depth.transformer.step(state, x, everyone, k))
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_published_sizes() -> None:
    with torch.device("meta"):
        model = S2SModel(moshi_7b())
    mine = sum(weight.numel() for name, weight in model.named_parameters() if "conditioning" not in name)
    # 2 x 8 tables and text, 32 blocks of 4 D^2 + 3 x 11264 D, 8 x 6 of the depth's own, its tables and heads.
    D, d, H, h = 4096, 1024, 11_264, 2816
    temporal = 16 * 2049 * D + (32_001 + 32_000) * D + 32 * (4 * D * D + 3 * H * D + 2 * D) + D
    depth = 8 * 6 * (4 * d * d + 3 * h * d) + 6 * 2 * d + 8 * D * d + (7 * 2049 + 32_001) * d + 8 * 2048 * d
    assert mine == temporal + depth
    assert 7.6e9 < mine < 7.8e9


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"decoder.model.norm.weight": None}, "lacks 'decoder.model.norm.weight'"),
        ({"decoder.model.norm.weight": torch.ones(5)}, r"\[5\], this Moshi's is \[32\]"),
        ({"decoder.extra": torch.ones(5)}, r"holds 1 tensors that Moshi has not \(decoder.extra"),
        ({"decoder.lm_head.weight": None}, r"does not hold Moshi's weights .* give model.safetensors"),
        ({"embed_tokens.1.weight": torch.ones(5, 7)}, "embed_tokens.4.weight is not of Moshi's shape"),
    ],
)
def test_another_architecture_is_refused(
    theirs: dict[str, Tensor], change: dict[str, Tensor | None], complaint: str
) -> None:
    tensors = {name: x for name, x in (theirs | change).items() if x is not None}
    with pytest.raises(CheckpointError, match=complaint):
        from_theirs(tensors, SIZES, "file")


def test_a_model_that_is_not_moshi_s_cannot_be_given_back() -> None:
    with pytest.raises(AssertionError, match="no place for this model"):
        to_moshi({}, S2SConfig())
