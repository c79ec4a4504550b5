import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paluku.nn.state import leaves, reset_
from paluku.nn.transformer import SwiGLU, Transformer, TransformerState

D, W, LAYERS = 16, 5, 2
ALL = torch.ones(2, dtype=torch.bool)


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(D, LAYERS, heads=2, window=W).eval().requires_grad_(False)


def noise(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, frames, D, generator=torch.Generator().manual_seed(seed))


def stream(model: Transformer, state: TransformerState, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([model.step(state, frame, ALL) for frame in x.unbind(1)], dim=1)


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(1, 4 * W), seed=st.integers(0, 99))
def test_streaming_equals_the_whole_sequence_at_any_length(
    model: Transformer, frames: int, seed: int
) -> None:
    x = noise(frames, seed)
    torch.testing.assert_close(stream(model, model.init_state(2), x), model(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("changed", [0, 7, 19])
def test_output_depends_on_the_past_within_reach_and_on_nothing_else(
    model: Transformer, changed: int
) -> None:
    x = noise(20)
    other = x.clone()
    other[:, changed] += 1
    moved = (model(x) - model(other)).abs().amax(dim=(0, 2)) > 1e-7
    reach = LAYERS * (W - 1)
    assert moved.tolist() == [changed <= t <= changed + reach for t in range(20)]


def test_after_a_year_a_stream_still_equals_a_fresh_one(model: Transformer) -> None:
    x, late = noise(3 * W), model.init_state(2)
    late.position.fill_(25 * 3600 * 24 * 366)
    # What a ring held before falls out of reach after LAYERS * (W - 1) frames.
    old, fresh = stream(model, late, x), stream(model, model.init_state(2), x)
    reach = LAYERS * (W - 1)
    torch.testing.assert_close(old[:, reach:], fresh[:, reach:], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(old[:, 0], fresh[:, 0], atol=1e-3), "a full ring of zeros is not an empty one"


def test_a_seat_that_does_not_run_keeps_its_state_bit_for_bit(model: Transformer) -> None:
    state, x = model.init_state(2), noise(W + 2)
    stream(model, state, x)
    before = [leaf.clone() for leaf in leaves(state)]
    model.step(state, x[:, 0], torch.tensor([True, False]))
    changed = []
    for was, now in zip(before, leaves(state), strict=True):
        assert torch.equal(was[1], now[1])
        changed.append(not torch.equal(was[0], now[0]))
    assert changed == [True, False, *[True] * 2 * LAYERS], "all but where the seat began"


def test_a_fresh_seat_that_does_not_run_gives_finite_values(model: Transformer) -> None:
    assert model.step(model.init_state(2), noise(1)[:, 0], torch.zeros(2, dtype=torch.bool)).isfinite().all()


def test_a_reset_seat_equals_a_fresh_one(model: Transformer) -> None:
    used, fresh, x = model.init_state(2), model.init_state(2), noise(W + 3)
    stream(model, used, noise(W + 1, seed=9))
    reset_(used, ALL)
    assert torch.equal(stream(model, used, x), stream(model, fresh, x))


def test_swiglu_is_its_formula() -> None:
    torch.manual_seed(0)
    layer, x = SwiGLU(12), torch.randn(3, 12)
    gate, value = x @ layer.project_in.weight[:32].T, x @ layer.project_in.weight[32:].T
    expected = (gate / (1 + torch.exp(-gate)) * value) @ layer.project_out.weight.T
    torch.testing.assert_close(layer(x), expected)


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 10**9), lengths=st.lists(st.integers(1, 3 * W), min_size=1, max_size=4))
def test_stretches_of_any_length_leave_the_state_that_steps_leave(
    model: Transformer, start: int, lengths: list[int]
) -> None:
    stepped, extended = model.init_state(1), model.init_state(1)
    x = noise(sum(lengths) + W)[:1]
    for state in (stepped, extended):
        state.position.fill_(start)
        state.start.fill_(start)
    for frame in x.unbind(1)[: sum(lengths)]:
        model.step(stepped, frame, ALL[:1])
    for part in x[:, : sum(lengths)].split(lengths, dim=1):
        model.extend(extended, part, LAYERS)
    for by_steps, by_stretches in zip(leaves(stepped), leaves(extended), strict=True):
        torch.testing.assert_close(by_stretches, by_steps, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, W, 3 * W])
def test_a_seat_that_begins_late_hears_nothing_of_the_frames_before(model: Transformer, frames: int) -> None:
    early, late, x = model.init_state(2), model.init_state(2), noise(frames)
    late.position.fill_(1000)
    late.start.fill_(1000)
    torch.testing.assert_close(stream(model, late, x), stream(model, early, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("age", "layers"), [(1, 2), (W - 1, 2), (W, 1), (2 * (W - 1), 1), (2 * W - 1, 0)])
def test_layers_of_old_frames_fall_out_of_sight(model: Transformer, age: int, layers: int) -> None:
    assert model.layers_reached(age) == layers


@pytest.mark.parametrize("rope_base", [None, 10_000.0])
@pytest.mark.parametrize("last_norm", [True, False])
def test_a_stream_takes_each_step_with_its_own_matrices(rope_base: float | None, last_norm: bool) -> None:
    torch.manual_seed(0)
    model = Transformer(D, LAYERS, heads=2, window=W, rope_base=rope_base, steps=W, last_norm=last_norm)
    state, x = model.eval().requires_grad_(False).init_state(2), noise(W)
    steps = [model.step(state, frame, ALL, index) for index, frame in enumerate(x.unbind(1))]
    torch.testing.assert_close(torch.stack(steps, dim=1), model(x), atol=1e-5, rtol=1e-4)


def test_steps_of_equal_matrices_are_a_shared_one() -> None:
    torch.manual_seed(0)
    shared, own = Transformer(D, LAYERS, 2, W), Transformer(D, LAYERS, 2, W, steps=W)
    repeated = {
        name: weight.expand(W, -1, -1) if "project" in name else weight
        for name, weight in shared.state_dict().items()
    }
    own.load_state_dict(repeated)
    torch.testing.assert_close(own(noise(W)), shared(noise(W)), atol=1e-5, rtol=1e-4)


def test_without_rotary_positions_only_the_order_of_sight_tells_frames_apart() -> None:
    # The last frame sees the same frames in another order: a sum over them, which has none.
    torch.manual_seed(0)
    x, swapped = noise(3), noise(3)[:, [1, 0, 2]]
    for base, same in ((None, True), (10_000.0, False)):
        model = Transformer(D, 1, heads=2, window=W, rope_base=base)
        assert torch.allclose(model(x)[:, 2], model(swapped)[:, 2], atol=1e-6) == same


def test_the_feed_forward_is_as_wide_as_asked() -> None:
    model = Transformer(D, LAYERS, 2, W, feedforward_dim=24)
    assert model.state_dict()["blocks.1.feedforward.project_in.weight"].shape == (48, D)


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 2 * W), min_size=1, max_size=4))
def test_documents_in_one_row_are_each_alone(model: Transformer, lengths: list[int]) -> None:
    x = noise(sum(lengths))[:1]
    numbers = torch.cat([torch.full((length,), n) for n, length in enumerate(lengths)])[None]
    together = model(x, numbers).split(lengths, dim=1)
    for document, part in zip(x.split(lengths, dim=1), together, strict=True):
        torch.testing.assert_close(part, model(document), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("document", [None, [[0] * 9, [1] * 9], [[0] * 4 + [1] * 5, [2] * 7 + [-1] * 2]])
def test_computing_again_changes_neither_output_nor_gradient(document: list | None, dropout: float) -> None:
    numbers = None if document is None else torch.tensor(document)
    outputs, gradients = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = Transformer(D, LAYERS, 2, W)
        model.drop(dropout)
        outputs.append(model(noise(9), numbers, recompute))
        outputs[-1].square().sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    assert torch.equal(*outputs)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_dropout_is_for_training_alone() -> None:
    torch.manual_seed(0)
    model, x = Transformer(D, LAYERS, 2, W), noise(9)
    plain = model(x)
    model.drop(0.5)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), plain)
