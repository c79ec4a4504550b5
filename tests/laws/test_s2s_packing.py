"""Laws of packing: documents that share a row, or a batch, are as each alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.s2s.model import DepthConfig, Logits, S2SConfig, S2SModel
from tests.fakes.s2s import HEARING

K, V, TEXT, W = 3, 12, 20, 4


def model_of(**changes: object) -> S2SModel:
    """Larger weights than a fresh model's, so that little changes show."""
    depth = DepthConfig(dim=16, layers=1, heads=2, per_step=True)
    config = S2SConfig(
        num_codebooks=K, codebook_size=V, text_vocab=TEXT, dim=16, layers=2, heads=2, window=W,
        speaker_dim=5, depth=depth,
    )  # fmt: skip
    torch.manual_seed(0)
    model = S2SModel(config.model_copy(update=changes)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(10 if weight.dim() > 1 else 1)
    return model


MODELS = {
    name: model_of(**changes).requires_grad_(False)
    for name, changes in {
        "ours": {},
        "late": {"acoustic_delay": 2},
        "moshi": {"user_delay": 1},
        "hears": {"hearing": HEARING},
    }.items()
}


def tokens(rows: int, frames: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    agent, user = torch.randint(0, V, (2, rows, K, frames), generator=generator)
    text = torch.randint(0, TEXT, (rows, frames), generator=generator)
    return {"agent_codes": agent, "user_codes": user, "text": text}


def conditions(model: S2SModel, documents: int) -> dict:
    voice, style = torch.arange(documents) % 4, torch.arange(documents) % 9
    return {"rows": model.conditioning.rows(voice, style)}


def packed(lengths: list[int], padding: int) -> torch.Tensor:
    runs = [torch.full((length,), number) for number, length in enumerate(lengths)]
    return torch.cat([*runs, torch.full((padding,), -1)])[None]


def alone(model: S2SModel, whole: dict[str, torch.Tensor], number: int, part: slice) -> Logits:
    own = {name: x[..., part] for name, x in whole.items()}
    rows = conditions(model, number + 1)["rows"]
    only = type(rows)(*(each[number:] for each in rows))
    return model(**own, document=torch.zeros_like(own["text"]), rows=only)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 3 * W), min_size=1, max_size=4),
    padding=st.integers(0, 3),
    name=st.sampled_from(sorted(MODELS)),
)
def test_documents_packed_in_one_row_get_the_logits_of_each_alone(
    lengths: list[int], padding: int, name: str
) -> None:
    model, document = MODELS[name], packed(lengths, padding)
    whole = tokens(1, document.shape[1], seed=sum(lengths))
    together, start = model(**whole, document=document, **conditions(model, len(lengths))), 0
    for number, length in enumerate(lengths):
        part = slice(start, start + length)
        own, start = alone(model, whole, number, part), start + length
        torch.testing.assert_close(together.text[:, part], own.text, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.user_text[:, part], own.user_text, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.codes[part], own.codes, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_nothing_reaches_another_document_or_comes_from_padding(name: str) -> None:
    model, document = MODELS[name], torch.tensor([[0, 0, 0, 0, 1, 1, 1, -1, -1], [2] * 7 + [-1] * 2])
    one, other = tokens(2, 9), tokens(2, 9, seed=1)
    changed = (document == 0) | (document == -1)
    mixed = {
        key: torch.where(changed if x.dim() == 2 else changed[:, None], other[key], x)
        for key, x in one.items()
    }
    rows = conditions(model, 3)
    before, after = (model(**each, document=document, **rows) for each in (one, mixed))
    moved = (before.text != after.text).any(-1) | (before.codes != after.codes).flatten(1).any(1).view(2, 9)
    assert not moved[(document == 1) | (document == 2)].any()
    assert moved[document == 0].all()


def test_the_condition_of_a_document_is_heard_in_it_alone() -> None:
    model, document = MODELS["ours"], packed([3, 4], 2)
    whole, rows = tokens(1, 9), conditions(MODELS["ours"], 2)["rows"]
    other = rows._replace(style=torch.tensor([0, 5]))
    moved = (
        model(**whole, document=document, rows=rows).text
        != model(**whole, document=document, rows=other).text
    )
    assert torch.equal(moved.any(-1)[0], document[0] == 1)


def test_dropped_conditions_are_null_conditions_and_their_values_do_not_matter() -> None:
    model, whole, document = MODELS["ours"], tokens(1, 6), packed([3, 3], 0)
    rows = conditions(model, 2)["rows"]
    other = rows._replace(speaker=rows.speaker.flip(0), style=torch.tensor([7, 8]))
    null = model(**whole, document=document, rows=rows.dropped())
    for mine, theirs in zip(null, model(**whole, document=document, rows=other.dropped()), strict=True):
        assert mine is theirs is None or torch.equal(mine, theirs)
    assert not torch.allclose(null.text, model(**whole, document=document, rows=rows).text)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 17), min_size=1, max_size=18, unique=True))
def test_the_depth_transformer_runs_where_it_is_asked_to(flat: list[int]) -> None:
    model, document = MODELS["ours"], torch.tensor([[0] * 5 + [1] * 4, [2] * 9])
    whole, rows, at = tokens(2, 9), conditions(MODELS["ours"], 3), torch.tensor(flat)
    everywhere = model(**whole, document=document, **rows)
    some = model(**whole, document=document, **rows, depth_at=at)
    torch.testing.assert_close(some.codes, everywhere.codes[at], atol=1e-5, rtol=1e-4)
    assert torch.equal(some.text, everywhere.text)


def test_computing_again_in_the_backward_pass_changes_nothing() -> None:
    results = []
    for recompute in (False, True):
        model = model_of()
        logits = model(
            **tokens(2, 9),
            document=torch.tensor([[0] * 5 + [1] * 4, [2] * 9]),
            **conditions(model, 3),
            recompute=recompute,
        )
        sum(part.square().sum() for part in logits if part is not None).backward()
        results.append([*logits[:3], *(weight.grad for weight in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_the_layout_begins_anew_in_every_document() -> None:
    model, pad = MODELS["late"], V
    agent = torch.arange(7).expand(1, K, 7)
    own = model.delayed(agent, torch.tensor([[0, 0, 0, 1, 1, 1, -1]]))[0]
    assert own[0].tolist() == [0, 1, 2, 3, 4, 5, pad]
    assert own[1].tolist() == own[2].tolist() == [pad, pad, 0, pad, pad, 3, pad]
