import torch

from paluku.nn.step_linear import SharedLinear, StepLinear


def test_each_position_has_its_own_matrix() -> None:
    torch.manual_seed(0)
    layer, x = StepLinear(4, 3, steps=5), torch.randn(2, 5, 4)
    outputs = layer(x)
    for position in range(5):
        expected = x[:, position] @ layer.weight[position].T
        torch.testing.assert_close(outputs[:, position], expected)
        torch.testing.assert_close(layer(x[:, position], position), expected)
    torch.testing.assert_close(layer(x[:, :2]), outputs[:, :2])


def test_a_shared_one_is_the_same_at_every_position() -> None:
    layer, x = SharedLinear(4, 3), torch.randn(2, 4)
    assert layer.bias is None
    assert torch.equal(layer(x), layer(x, 3))
