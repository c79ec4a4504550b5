"""Laws of the balancer: shares equal the weights, whatever the losses' scales, batches or workers."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from paluku.errors import CheckpointError
from paluku.training.balancer import Balancer, BalancerConfig, example_norms
from paluku.training.world import World, current_world

ALONE = World(0, 1, torch.device("cpu"))
WEIGHTS = {"wave": 1.0, "mel": 3.0}


def leaf(seed: int = 0, batch: int = 4) -> Tensor:
    return torch.randn(batch, 1, 50, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def losses_of(decoded: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
    """Means over the batch, of very different sizes: `wave` pushes the first half, `mel` the second."""
    wave, mel = decoded[..., :25], decoded[..., 25:]
    return {"wave": scale * wave.square().mean(), "mel": 1e-4 * mel.pow(3).mean()}


def norm(gradient: Tensor) -> float:
    return float(example_norms(gradient[None])[0])


def test_shares_equal_the_weights_and_their_sum_the_total_norm() -> None:
    decoded = leaf()
    balancer = Balancer(WEIGHTS, BalancerConfig(total_norm=2.0), ALONE)
    gradient = balancer.balance(losses_of(decoded), decoded).gradient
    assert norm(gradient[..., :25]) == pytest.approx(2.0 / 4, rel=1e-5)
    assert norm(gradient[..., 25:]) == pytest.approx(2.0 * 3 / 4, rel=1e-5)


def test_one_loss_alone_is_brought_to_the_total_norm_in_its_own_direction() -> None:
    decoded = leaf()
    balanced = Balancer({"mel": 0.3}, BalancerConfig(), ALONE).balance(
        {"mel": decoded.square().mean()}, decoded
    )
    assert norm(balanced.gradient) == pytest.approx(1.0, rel=1e-5)
    cosine = torch.cosine_similarity(balanced.gradient.flatten(), decoded.detach().flatten(), dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_scale_of_a_loss_does_not_matter() -> None:
    decoded = leaf()
    first, second = (
        Balancer(WEIGHTS, BalancerConfig(), ALONE).balance(losses_of(decoded, scale), decoded)
        for scale in (1.0, 1e3)
    )
    torch.testing.assert_close(first.gradient, second.gradient)
    assert float(second.norms["wave"]) == pytest.approx(1e3 * float(first.norms["wave"]), rel=1e-5)
    # d/dx of the mean over 4 x 25 values of x^2 is 2x/100; times the 4 examples of the batch.
    expected = (decoded.detach()[..., :25] * 2 / 25).flatten(1).norm(dim=1).mean()
    torch.testing.assert_close(first.norms["wave"], expected)


def test_the_divisor_is_the_moving_average_of_the_norms() -> None:
    """Norms n1, n2, n3 with decay 1/2, corrected for the start: (n1 + 2 n2 + 4 n3) / 7."""
    balancer = Balancer({"wave": 1.0}, BalancerConfig(decay=0.5), ALONE)
    decoded = torch.ones(1, 1, 4, requires_grad=True)
    for slope in (1.0, 5.0, 3.0):  # gradients of norm 2 * slope
        gradient = balancer.balance({"wave": slope * decoded.sum()}, decoded).gradient
    assert norm(gradient) == pytest.approx(3 / ((1 + 2 * 5 + 4 * 3) / 7), rel=1e-6)


def test_a_loss_may_join_later_and_then_takes_its_share() -> None:
    decoded = leaf()
    balancer, losses = Balancer(WEIGHTS, BalancerConfig(), ALONE), losses_of(decoded)
    for _ in range(3):
        alone = balancer.balance({"wave": losses["wave"]}, decoded).gradient
    assert norm(alone) == pytest.approx(1.0, rel=1e-5)
    both = balancer.balance(losses, decoded).gradient
    assert norm(both[..., :25]) == pytest.approx(0.25, rel=1e-5)
    assert norm(both[..., 25:]) == pytest.approx(0.75, rel=1e-5)


def test_a_loss_without_gradient_is_without_effect() -> None:
    decoded = leaf()
    losses = {"wave": (decoded[..., :25] * 0).sum(), "mel": losses_of(decoded)["mel"]}
    gradient = Balancer(WEIGHTS, BalancerConfig(), ALONE).balance(losses, decoded).gradient
    assert float(gradient[..., :25].abs().sum()) == 0
    assert norm(gradient[..., 25:]) == pytest.approx(0.75, rel=1e-5)


def test_it_is_propagated_together_with_what_does_not_go_through_the_wave() -> None:
    weight = torch.ones(1, requires_grad=True)
    decoded = weight * torch.ones(1, 1, 4)
    balanced = Balancer({"wave": 1.0}, BalancerConfig(), ALONE).balance({"wave": decoded.sum()}, decoded)
    torch.autograd.backward([decoded, 10 * weight.sum()], [balanced.gradient, None])
    assert weight.grad is not None
    # Four samples of gradient 1/2 each (norm 1), and 10 beside them.
    assert weight.grad.tolist() == pytest.approx([12.0])


def test_resumed_it_goes_on_bit_for_bit() -> None:
    through = Balancer(WEIGHTS, BalancerConfig(decay=0.9), ALONE)
    resumed = Balancer(WEIGHTS, BalancerConfig(decay=0.9), ALONE)
    for step in range(6):
        if step == 3:
            resumed.load_state_dict(through.state_dict())
        decoded = leaf(step)
        gradient = through.balance(losses_of(decoded), decoded).gradient
        if step >= 3:
            again = resumed.balance(losses_of(decoded), decoded).gradient
            torch.testing.assert_close(again, gradient, atol=0, rtol=0)


def test_a_state_is_kept_apart_from_what_goes_on() -> None:
    balancer, decoded = Balancer(WEIGHTS, BalancerConfig(), ALONE), leaf()
    balancer.balance(losses_of(decoded), decoded)
    state = balancer.state_dict()
    kept = state["sums"].clone()
    balancer.balance(losses_of(decoded, 9.0), decoded)
    torch.testing.assert_close(state["sums"], kept, atol=0, rtol=0)


def test_the_state_of_other_losses_is_refused() -> None:
    other = Balancer({"wave": 1.0}, BalancerConfig(), ALONE).state_dict()
    with pytest.raises(CheckpointError, match="mel"):
        Balancer(WEIGHTS, BalancerConfig(), ALONE).load_state_dict(other)


def test_two_workers_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    """Mean gradient of a weight over both, as DDP makes it; running means agree bit for bit."""
    mp.spawn(_worker, (_free_port(), tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(first["state"], second["state"], atol=0, rtol=0)
    alone = _descended(ALONE)
    torch.testing.assert_close((first["gradient"] + second["gradient"]) / 2, alone["gradient"])
    torch.testing.assert_close(first["state"]["sums"], alone["state"]["sums"])


def _descended(world: World) -> dict[str, object]:
    """What a weight for every place in time gets in two steps, on this worker's part of the batch."""
    balancer, weight = Balancer(WEIGHTS, BalancerConfig(decay=0.9), world), torch.ones(50, requires_grad=True)
    for step in range(2):
        part = leaf(step, batch=4).detach().chunk(world.size)[world.rank]
        decoded = weight * part
        decoded.backward(balancer.balance(losses_of(decoded), decoded).gradient)
    state = {name: value for name, value in balancer.state_dict().items() if name != "names"}
    return {"gradient": weight.grad, "state": state}


def _worker(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(_descended(current_world()), folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
