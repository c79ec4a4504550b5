import torch

from paluku.s2s.conditioning import Conditioning
from paluku.voices import VOICES

E, D = 6, 8
EVERYONE = torch.ones(len(VOICES), dtype=torch.bool)


def conditioning() -> Conditioning:
    torch.manual_seed(0)
    return Conditioning(D, E).requires_grad_(False)


def test_fresh_voices_are_orthonormal_and_travel_with_the_weights() -> None:
    fresh = conditioning()
    assert torch.equal(fresh.voices @ fresh.voices.T, torch.eye(len(VOICES)))
    assert "voices" in fresh.state_dict()


def test_a_dropped_condition_is_its_null_vector_whatever_stands_there() -> None:
    model = conditioning()
    voice, style = torch.arange(4), torch.tensor([0, 3, 3, 8])
    given = model.rows(voice, style)
    one, other = model.speaker(given.speaker), model.style(style)
    assert torch.equal(model(given), one + other)
    assert torch.equal(model(given._replace(has_speaker=~EVERYONE)), model.no_speaker + other)
    assert torch.equal(model(given._replace(has_style=~EVERYONE)), one + model.no_style)
    neither = (model.no_speaker + model.no_style).expand(4, -1)
    assert torch.equal(model(given.dropped()), neither)
    assert torch.equal(model(given._replace(speaker=given.speaker * 9).dropped()), neither)


def test_a_voice_is_its_speaker_vector() -> None:
    model = conditioning()
    model.voices[2] = torch.nn.functional.normalize(torch.randn(E), dim=0)
    rows = model.rows(torch.tensor([2, 0]), torch.tensor([1, 1]))
    assert torch.equal(rows.speaker, model.voices[[2, 0]])
    assert rows.has_speaker.all()
    assert rows.has_style.all()


def test_null_vectors_learn_where_a_condition_is_dropped_and_only_there() -> None:
    model = conditioning().requires_grad_(True)
    given = model.rows(torch.tensor([0, 1]), torch.tensor([2, 2]))
    model(given).sum().backward()
    assert not model.no_speaker.grad.any()
    assert not model.no_style.grad.any()
    model.zero_grad()
    model(given.dropped()).sum().backward()
    assert model.no_speaker.grad.eq(2).all()
    assert not model.speaker.weight.grad.any()
