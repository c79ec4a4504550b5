"""The law of whitening, against a singular value decomposition, and what cannot be whitened."""

import numpy as np
import pytest

from paluku.corpus.teacher.basis import Basis, Moments
from paluku.errors import CorpusError


def uneven(num_frames: int = 400, width: int = 8) -> np.ndarray:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(width, width)) * np.geomspace(10, 0.1, width)[:, None]
    return (random.normal(size=(num_frames, width)) @ mixing + 5).astype(np.float32)


def test_projected_frames_have_no_mean_and_the_covariance_of_white_noise() -> None:
    frames = uneven()
    projected = Basis.fitted(Moments.of(frames), 5).project(frames)
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(projected.T, bias=True), np.eye(5), atol=1e-3)


def test_components_are_the_singular_vectors_in_the_order_of_their_variance() -> None:
    frames = uneven()
    basis = Basis.fitted(Moments.of(frames), 3)
    _, singular, vectors = np.linalg.svd(frames - frames.mean(axis=0), full_matrices=False)
    expected = vectors[:3] / (singular[:3] / np.sqrt(len(frames)))[:, None]
    alike = (basis.projection * expected).sum(axis=1) / (expected**2).sum(axis=1)
    np.testing.assert_allclose(np.abs(alike), 1, atol=1e-3)
    np.testing.assert_allclose(basis.kept_share, singular[:3] ** 2 / (singular**2).sum(), rtol=1e-3)


def test_moments_of_parts_add_up_to_those_of_the_whole() -> None:
    frames = uneven()
    added = Moments.zero(8) + Moments.of(frames[:100]) + Moments.of(frames[100:])
    assert added.num_frames == 400
    np.testing.assert_allclose(added.mean, frames.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(added.covariance, np.cov(frames.T, bias=True), rtol=1e-3, atol=1e-4)


def test_files_hold_what_was_written() -> None:
    moments = Moments.of(uneven())
    np.testing.assert_array_equal(Moments.from_bytes(moments.to_bytes()).sums, moments.sums)
    basis = Basis.fitted(moments, 4)
    for again, known in zip(Basis.from_bytes(basis.to_bytes(), "basis"), basis, strict=True):
        np.testing.assert_array_equal(again, known)
    assert basis.to_bytes() == Basis.fitted(moments, 4).to_bytes()


def test_what_cannot_be_whitened_is_said() -> None:
    with pytest.raises(CorpusError, match="4 frames are too few for 4 dimensions"):
        Basis.fitted(Moments.of(uneven(4)), 4)
    flat = uneven()
    flat[:, 3:] = 7
    with pytest.raises(CorpusError, match="vary in 3 directions only; set dims=3"):
        Basis.fitted(Moments.of(flat), 4)
    with pytest.raises(CorpusError, match="vary in 0 directions only"):
        Basis.fitted(Moments.of(np.zeros((100, 8), np.float32)), 4)
    with pytest.raises(CorpusError, match=r"here\.safetensors cannot be read"):
        Basis.from_bytes(b"no such file", "here.safetensors")
