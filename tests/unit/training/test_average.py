"""The average of weights: its closed form, what happens to buffers, resuming."""

import pytest
import torch
from torch import Tensor, nn

from paluku.errors import CheckpointError
from paluku.training.average import WeightAverage, warm_decay


class Booked(nn.Module):
    """A weight, a codebook and a counter."""

    codebook: Tensor
    updates: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1, bias=False)
        self.register_buffer("codebook", torch.zeros(3))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def become_(self, value: float) -> None:
        with torch.no_grad():
            self.linear.weight.fill_(value)
            self.codebook.fill_(value)
            self.updates += 1


def trained(module: Booked, average: WeightAverage, values: list[float]) -> None:
    for value in values:
        module.become_(value)
        average.update(module)


def held(average: WeightAverage) -> float:
    return float(average.weights["linear.weight"][0, 0])


def test_decay_warms_up_to_its_own() -> None:
    assert warm_decay(0, 0.999) == pytest.approx(0.1)
    assert warm_decay(8, 0.999) == pytest.approx(0.5)
    assert warm_decay(100_000, 0.999) == 0.999
    assert warm_decay(8, 0.3) == 0.3


def test_it_equals_the_closed_form() -> None:
    """Start 7, then 1, 2, 3, with decays 1/10, 2/11, and 1/5: the limit, as 3/12 is above it."""
    module = Booked()
    module.become_(7.0)
    average = WeightAverage(module, decay=0.2)
    trained(module, average, [1.0, 2.0, 3.0])
    weights = [0.1 * (2 / 11) * 0.2, 0.9 * (2 / 11) * 0.2, (9 / 11) * 0.2, 0.8]
    assert sum(weights) == pytest.approx(1)
    expected = sum(w * v for w, v in zip(weights, [7.0, 1.0, 2.0, 3.0], strict=True))
    assert held(average) == pytest.approx(expected, rel=1e-6)


def test_constant_weights_are_their_own_average() -> None:
    module = Booked()
    before = module.linear.weight.detach().clone()
    average = WeightAverage(module)
    for _ in range(20):
        average.update(module)
    torch.testing.assert_close(average.weights["linear.weight"], before, atol=0, rtol=0)


def test_buffers_are_the_last_ones() -> None:
    module = Booked()
    average = WeightAverage(module)
    trained(module, average, [1.0, 5.0])
    assert average.weights["codebook"].tolist() == [5.0] * 3
    assert int(average.weights["updates"]) == 2
    module.become_(9.0)
    assert average.weights["codebook"].tolist() == [5.0] * 3  # a copy


def test_inside_the_module_is_the_average_and_afterwards_itself() -> None:
    module = Booked()
    average = WeightAverage(module)
    trained(module, average, [1.0, 5.0])
    place = module.linear.weight
    own = place.detach().clone()
    with average.averaged(module):
        assert float(module.linear.weight[0, 0].detach()) == held(average)
        assert module.codebook.tolist() == [5.0] * 3
    assert module.linear.weight is place  # the optimiser's
    torch.testing.assert_close(place.detach(), own, atol=0, rtol=0)
    assert held(average) != float(own[0, 0])


def test_another_module_takes_weights_and_buffers() -> None:
    module, other = Booked(), Booked()
    average = WeightAverage(module)
    trained(module, average, [1.0, 5.0])
    average.copy_to(other)
    assert float(other.linear.weight[0, 0].detach()) == held(average)
    assert other.codebook.tolist() == [5.0] * 3


def test_tied_weights_stay_tied() -> None:
    layer = nn.Linear(2, 2, bias=False)
    module = nn.Sequential(layer, layer)
    average = WeightAverage(module, decay=0.5)
    with torch.no_grad():
        layer.weight.add_(1.0)
    average.update(module)
    first, second = average.weights.values()
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    torch.testing.assert_close(first, layer.weight.detach() - 0.1)


def test_resumed_it_goes_on_bit_for_bit() -> None:
    module = Booked()
    through, resumed = WeightAverage(module), WeightAverage(module)
    trained(module, through, [1.0, 5.0, 2.0])
    state = through.state_dict()
    trained(module, through, [4.0, 0.3])
    resumed.load_state_dict(state)
    trained(module, resumed, [4.0, 0.3])
    assert resumed.updates == through.updates == 5
    assert held(resumed) == held(through)


def test_the_average_of_another_model_is_refused() -> None:
    average = WeightAverage(Booked())
    with pytest.raises(CheckpointError, match="linear"):
        average.load_state_dict(WeightAverage(nn.Linear(2, 2)).state_dict())
    with pytest.raises(CheckpointError, match="weight"):
        WeightAverage(nn.Linear(2, 2)).load_state_dict(WeightAverage(nn.Linear(3, 2)).state_dict())
