"""The angular margin softmax, against the formula of the paper and by what it asks for."""

import math

import pytest
import torch
from torch.nn import functional as F

from paluku.speakers.losses import AngularMarginSoftmax, moved_away


def at_angles(*degrees: float) -> torch.Tensor:
    """Vectors of unit length in the plane."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack((angles.cos(), angles.sin()), dim=1)


def softmax(*degrees: float, scale: float = 30.0) -> AngularMarginSoftmax:
    """Centres in the plane, of any length."""
    found = AngularMarginSoftmax(2, len(degrees), scale)
    found.centres.data = 3 * at_angles(*degrees)
    return found


def test_it_is_the_paper_s_formula() -> None:
    """Two centres at 0 and 90 degrees, a vector at 30: -log(e^{s cos(30+m)} / (... + e^{s cos 60}))."""
    margin = math.radians(10)
    told = softmax(0, 90, scale=4.0)(at_angles(30), torch.tensor([0]), margin)
    own, other = 4 * math.cos(math.radians(40)), 4 * math.cos(math.radians(60))
    assert told.loss.item() == pytest.approx(
        -math.log(math.exp(own) / (math.exp(own) + math.exp(other))), abs=1e-5
    )
    assert told.accuracy == 1


def test_without_a_margin_it_is_a_softmax_of_cosines() -> None:
    torch.manual_seed(0)
    vectors, speakers = F.normalize(torch.randn(8, 5), dim=-1), torch.randint(6, (8,))
    loss = AngularMarginSoftmax(5, 6, 10.0)
    cosines = torch.cosine_similarity(vectors[:, None], loss.centres[None], dim=-1)
    torch.testing.assert_close(loss(vectors, speakers, 0.0).loss, F.cross_entropy(10 * cosines, speakers))


def test_the_margin_is_a_loss_until_the_vector_is_so_much_nearer() -> None:
    told = softmax(0, 60)
    by_angle = [
        told(at_angles(angle), torch.tensor([0]), math.radians(20)).loss.item() for angle in (0, 20, 25)
    ]
    # At 20 degrees its own centre looks as far as the other one: a coin is tossed.
    assert by_angle[1] == pytest.approx(math.log(2), abs=1e-4)
    assert by_angle[0] < 0.02 < by_angle[2]


def test_it_goes_on_down_where_the_angle_passes_half_a_turn() -> None:
    cosines = torch.linspace(1, -1, 200)[:, None]
    assert (moved_away(cosines, 0.5).diff(dim=0) < 0).all()


def test_a_vector_on_its_centre_has_a_finite_gradient() -> None:
    vectors = at_angles(0, 180).requires_grad_()
    softmax(0, 180)(vectors, torch.tensor([0, 0]), 0.2).loss.backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()
