"""Adversarial losses and feature matching on verdicts written by hand."""

import pytest
import torch

from paluku.codec.adversarial import Adversary, discriminator_loss, feature_matching, generator_loss
from paluku.codec.discriminators import Verdict


def verdict(*logits: float, features: tuple[torch.Tensor, ...] = ()) -> Verdict:
    return Verdict(torch.tensor(logits).reshape(1, 1, 1, -1), features)


# Two discriminators, the second with more logits: each counts the same.
REAL = [verdict(2.0), verdict(0.0, 0.5)]
FAKE = [verdict(-3.0), verdict(1.0, -0.5)]


def test_hinge_losses_of_a_worked_example() -> None:
    """Real: 0 and (1 + 0.5)/2; fake: 0 and (2 + 0.5)/2. For the generator: 4 and (0 + 1.5)/2."""
    assert float(discriminator_loss(REAL, FAKE, "hinge")) == pytest.approx((0 + 0.75) / 2 + (0 + 1.25) / 2)
    assert float(generator_loss(FAKE, "hinge")) == pytest.approx((4 + 0.75) / 2)


def test_least_squares_losses_of_a_worked_example() -> None:
    """Real: 1 and (1 + 0.25)/2; fake: 9 and (1 + 0.25)/2. For the generator: 16 and (0 + 2.25)/2."""
    loss = discriminator_loss(REAL, FAKE, "least_squares")
    assert float(loss) == pytest.approx((1 + 0.625) / 2 + (9 + 0.625) / 2)
    assert float(generator_loss(FAKE, "least_squares")) == pytest.approx((16 + 1.125) / 2)


@pytest.mark.parametrize(("adversary", "right"), [("hinge", (1.0, -1.0)), ("least_squares", (1.0, 0.0))])
def test_who_is_right_pays_nothing(adversary: Adversary, right: tuple[float, float]) -> None:
    real, fake = [verdict(right[0])], [verdict(right[1])]
    assert float(discriminator_loss(real, fake, adversary)) == 0
    assert float(generator_loss(real, adversary)) == 0


def test_feature_matching_is_relative_to_the_real_ones() -> None:
    """Off by 0.5 beside 1 on average, and by 30 beside 100: a half and three tenths, at any scale."""
    ones, hundreds = torch.ones(2, 1, 3, 2), torch.full((2, 4, 1, 1), -100.0)
    real = [verdict(0.0, features=(ones, hundreds))]
    fake = [verdict(0.0, features=(ones + 0.5, hundreds + 30))]
    assert float(feature_matching(fake, real)) == pytest.approx((0.5 + 0.3) / 2, rel=1e-4)


def test_feature_matching_of_equals_is_zero_and_only_the_fake_is_moved() -> None:
    real, fake = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(2, 3, 4, 5, requires_grad=True)
    same = [verdict(0.0, features=(real,))]
    assert float(feature_matching(same, same).detach()) == 0
    feature_matching([verdict(0.0, features=(fake,))], [verdict(0.0, features=(real,))]).backward()
    assert real.grad is None
    assert fake.grad is not None
    # Each example is measured by its own magnitude.
    scale = real.numel() * real.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(fake.grad * scale, (fake - real).detach().sign(), atol=1e-3, rtol=0)


def test_losses_of_bfloat16_verdicts_are_float32() -> None:
    """bfloat16 would round a mean of many errors to three digits."""
    half = [Verdict(v.logits.bfloat16(), (torch.ones(1, 1, 2, 2).bfloat16(),)) for v in REAL]
    losses = [
        discriminator_loss(half, half, "hinge"),
        generator_loss(half, "least_squares"),
        feature_matching(half, half),
    ]
    assert {loss.dtype for loss in losses} == {torch.float32}
