"""Discriminators: what they see, what they learn, and whose weights they move."""

import math
import socket
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pydantic import ValidationError
from torch import Tensor

from paluku.codec.adversarial import discriminator_loss, feature_matching, generator_loss
from paluku.codec.discriminators import (
    DAC_SIZES,
    ENCODEC_SIZES,
    DiscriminatorConfig,
    Discriminators,
    PeriodDiscriminator,
    StftDiscriminator,
    folded,
    frozen,
    levelled_out,
)
from paluku.training.world import World, current_world, distribute

TINY = DiscriminatorConfig(
    windows=(64, 128), bands=(0.0, 0.5, 1.0), channels=4, periods=(2, 3), period_channels=(4, 4)
)


@pytest.fixture
def wave() -> Tensor:
    return torch.randn(2, 1, 1600, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.fixture
def judges() -> Discriminators:
    torch.manual_seed(0)
    return Discriminators(TINY)


def test_each_window_and_period_gives_logits_and_a_map_for_every_convolution(
    judges: Discriminators, wave: Tensor
) -> None:
    verdicts = judges(wave)
    assert [len(v.features) for v in verdicts] == [8, 8, 2, 2]  # two bands of four; two of a period
    # 1600 samples at hop 16 are 101 frames. Bands of 16 and 17 bins fold to 4 and 5, stride to 1 and 1.
    assert verdicts[0].logits.shape == (2, 1, 101, 2)
    assert [tuple(f.shape) for f in verdicts[0].features[4:]] == [
        (2, 4, 101, 3),
        (2, 4, 101, 2),
        (2, 4, 101, 1),
        (2, 4, 101, 1),
    ]
    # 1600 samples are 534 places of 3 phases (two mirrored), strided by 3.
    assert verdicts[3].logits.shape == (2, 1, 178, 3)


def test_the_published_sizes_are_those_of_the_papers() -> None:
    """DAC's period discriminator, weight by weight; EnCodec's maps, as its figure 2 draws them."""
    period = PeriodDiscriminator(11, DAC_SIZES.period_channels)
    # 5-tap convolutions 1-32-128-512-1024-1024, a 3-tap one to 1; a gain and a bias for each output.
    widths = [1, 32, 128, 512, 1024, 1024]
    taps = sum(5 * have * give for have, give in pairwise(widths)) + 3 * 1024
    assert sum(weight.numel() for weight in period.parameters()) == taps + 2 * (sum(widths[1:]) + 1)
    with torch.no_grad():
        verdict = StftDiscriminator(128, ENCODEC_SIZES)(torch.zeros(1, 1, 640))
    # 21 frames at hop 32; 65 bins, halved (rounded up) three times.
    assert [tuple(map_.shape) for map_ in verdict.features] == [
        (1, 32, 21, bins) for bins in (65, 33, 17, 9, 9)
    ]
    assert verdict.logits.shape == (1, 1, 21, 9)


def test_a_spectrum_of_white_noise_has_variance_one(wave: Tensor) -> None:
    noise = torch.randn(4, 1, 16_000, generator=torch.Generator().manual_seed(1))
    for judge in Discriminators(TINY).judges[:2]:
        assert isinstance(judge, StftDiscriminator)
        power = judge.spectrum(noise).square().sum(dim=1)
        assert float(power.mean()) == pytest.approx(1, rel=0.03)


def test_a_tone_lies_in_its_own_band(judges: Discriminators) -> None:
    """At 3/4 of Nyquist only the upper band's maps see it."""
    tone = torch.sin(torch.arange(1600) * math.pi * 0.75)[None, None]
    with torch.no_grad():
        silent, sounding = judges(torch.zeros_like(tone))[1], judges(tone)[1]
    moved = [float((a - b).abs().mean()) for a, b in zip(silent.features, sounding.features, strict=True)]
    assert all(upper > 50 * lower for lower, upper in zip(moved[:4], moved[4:], strict=True))


def test_folding_loses_no_bin_and_adds_only_zeros() -> None:
    spectrum = torch.arange(1.0, 2 * 3 * 7 + 1).reshape(1, 2, 3, 7)
    map_ = folded(spectrum, 4)
    assert map_.shape == (1, 8, 3, 2)
    # Place 1 of frame 2: bins 4, 5, 6 and one beyond the end, each with both parts.
    parts = map_[0, :, 2, 1].reshape(4, 2)
    torch.testing.assert_close(parts[:3], spectrum[0, :, 2, 4:7].T)
    assert parts[3].tolist() == [0, 0]


def test_loudness_and_offset_are_no_cue_but_silence_stays_quiet(wave: Tensor) -> None:
    torch.testing.assert_close(levelled_out(5 * wave + 0.1), levelled_out(wave))
    assert float(levelled_out(wave).abs().max()) == pytest.approx(0.8)
    assert float(levelled_out(wave * 1e-5).abs().max()) < 1e-3


def test_it_learns_to_tell_noise_from_a_sine_in_a_few_steps(judges: Discriminators) -> None:
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(1600) / 1600
    optimiser = torch.optim.Adam(judges.parameters(), lr=3e-2)

    def pair() -> tuple[Tensor, Tensor]:
        pitch = 100 + 200 * torch.rand(4, 1, 1, generator=generator)
        return torch.sin(2 * math.pi * pitch * time), torch.randn(4, 1, 1600, generator=generator)

    losses = []
    for _ in range(25):
        sine, noise = pair()
        loss = discriminator_loss(judges(sine), judges(noise), "hinge")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 1.8  # nothing known: 2
    assert losses[-1] < 0.6
    with torch.no_grad():
        sine, noise = (judges(wave) for wave in pair())
    for s, n in zip(sine, noise, strict=True):
        assert (s.logits.mean(dim=(1, 2, 3)) > n.logits.mean(dim=(1, 2, 3))).all()


def test_frozen_judges_pass_gradients_on_and_take_none(judges: Discriminators, wave: Tensor) -> None:
    fake = wave.clone().requires_grad_()
    with frozen(judges):
        verdicts = judges(fake)
    loss = generator_loss(verdicts, "hinge") + feature_matching(verdicts, judges(wave.flip(-1)))
    loss.backward()
    assert fake.grad is not None
    assert float(fake.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in judges.parameters())
    assert all(weight.requires_grad for weight in judges.parameters())


def test_a_frozen_weight_is_not_thawed_by_another_freeze(judges: Discriminators) -> None:
    first, *others = judges.parameters()
    first.requires_grad_(False)
    with frozen(judges):
        pass
    assert not first.requires_grad
    assert all(weight.requires_grad for weight in others)


def test_one_judgement_serves_both_sides(judges: Discriminators, wave: Tensor) -> None:
    """The recipe of the module: the wave's gradient first, then the weights', from one forward pass.

    It equals judging twice.
    """
    fake = wave.flip(-1).requires_grad_()
    of_real, of_fake = judges(wave), judges(fake)
    (shared,) = torch.autograd.grad(generator_loss(of_fake, "hinge"), fake, retain_graph=True)
    discriminator_loss(of_real, of_fake, "hinge").backward(inputs=list(judges.parameters()))
    assert fake.grad is None
    of_weights = [weight.grad for weight in judges.parameters()]
    judges.zero_grad()
    discriminator_loss(judges(wave), judges(fake.detach()), "hinge").backward()
    torch.testing.assert_close(of_weights, [weight.grad for weight in judges.parameters()])
    with frozen(judges):
        alone = torch.autograd.grad(generator_loss(judges(fake), "hinge"), fake)[0]
    torch.testing.assert_close(shared, alone)


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")  # said by the switch below
def test_autocast_changes_little_and_gradients_stay_finite(judges: Discriminators, wave: Tensor) -> None:
    fake = wave.flip(-1).requires_grad_()
    exact = generator_loss(judges(fake), "hinge") + feature_matching(judges(fake), judges(wave))
    # Without oneDNN: its bfloat16 convolutions are not ours to test, and were infinite in one run.
    without_onednn = torch.backends.mkldnn.flags(enabled=False)
    with without_onednn, torch.autocast("cpu", dtype=torch.bfloat16):
        verdicts, real = judges(fake), judges(wave)
        assert verdicts[0].logits.dtype == torch.bfloat16
        loss = generator_loss(verdicts, "hinge") + feature_matching(verdicts, real)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0)
    (gradient,) = torch.autograd.grad(loss, fake)
    assert torch.isfinite(gradient).all()


def test_silence_has_a_finite_gradient(judges: Discriminators) -> None:
    silence = torch.zeros(1, 1, 1600, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_loss(judges(silence), "least_squares"), silence)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"windows": ()}, "at least one"),
        ({"dilations": (1,)}, "as many"),
        ({"bands": (0.0, 0.7, 0.5, 1.0)}, "climb"),
        ({"bands": (0.1, 1.0)}, "climb"),
        ({"windows": (16,), "bands": (0.0, 0.01, 1.0)}, "too short"),
        ({"periods": (2,), "period_channels": ()}, "period_channels"),
    ],
)
def test_sizes_that_fit_nothing_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DiscriminatorConfig.model_validate(wrong)


def test_two_workers_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    """In DDP, judging twice for one backward pass, after a step in which the judges were frozen."""
    mp.spawn(_worker, (_free_port(), tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    torch.testing.assert_close(first, _learned_gradients(World(0, 1, torch.device("cpu"))))


def _learned_gradients(world: World) -> list[Tensor]:
    torch.manual_seed(0)
    judges = Discriminators(TINY)
    parallel = distribute(judges, world)
    waves = torch.randn(2, 4, 1, 400, generator=torch.Generator().manual_seed(0))
    real, fake = (part.chunk(world.size)[world.rank].clone().requires_grad_() for part in waves)
    with frozen(judges):
        torch.autograd.grad(generator_loss(judges(fake), "hinge"), fake)
    of_real, of_fake = parallel(real.detach()), parallel(fake)
    torch.autograd.grad(feature_matching(of_fake, of_real), fake, retain_graph=True)
    discriminator_loss(of_real, of_fake, "hinge").backward(inputs=list(judges.parameters()))
    return [weight.grad for weight in judges.parameters() if weight.grad is not None]


def _worker(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(_learned_gradients(current_world()), folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
