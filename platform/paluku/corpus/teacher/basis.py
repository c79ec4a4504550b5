"""The principal components of an encoder's vectors, whitened: few values, each of variance one."""

import io
from typing import NamedTuple, Self

import numpy as np
import safetensors
import safetensors.numpy

from paluku.errors import CorpusError

# A direction of next to no variance is noise: whitened, it would be as loud as speech.
MIN_VARIANCE_SHARE = 1e-9


class Moments:
    """What a covariance is computed from: the sum of `v vT` over vectors `v = (x, 1)`, in float64.

    Added up in one order, parts give the same sum on any number of workers.
    """

    def __init__(self, sums: np.ndarray) -> None:
        assert sums.shape[0] == sums.shape[1], sums.shape
        self.sums = sums

    @classmethod
    def zero(cls, width: int) -> Self:
        """Of no vectors."""
        return cls(np.zeros((width + 1, width + 1)))

    @classmethod
    def of(cls, frames: np.ndarray) -> Self:
        """Of `[T, width]`."""
        vectors = np.pad(frames.astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0)
        return cls(vectors.T @ vectors)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.sums + other.sums)

    @property
    def num_frames(self) -> int:
        """How many vectors."""
        return int(self.sums[-1, -1])

    @property
    def mean(self) -> np.ndarray:
        """`[width]`."""
        return self.sums[-1, :-1] / self.num_frames

    @property
    def covariance(self) -> np.ndarray:
        """`[width, width]`."""
        return self.sums[:-1, :-1] / self.num_frames - np.outer(self.mean, self.mean)

    def to_bytes(self) -> bytes:
        """As a NumPy file."""
        buffer = io.BytesIO()
        np.save(buffer, self.sums)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` gave."""
        return cls(np.load(io.BytesIO(data)))


class Basis(NamedTuple):
    """A vector x becomes `projection (x - mean)`: the first D principal components over their deviations."""

    mean: np.ndarray  # float32 [width]
    projection: np.ndarray  # float32 [D, width]
    kept_share: np.ndarray  # float64 [D]: how much of all variance each component has

    @classmethod
    def fitted(cls, moments: Moments, dims: int) -> Self:
        """To the vectors that were counted.

        Raises:
            CorpusError: when these are too few, or too much alike, for so many dimensions.
        """
        if moments.num_frames <= dims:
            raise CorpusError(
                f"{moments.num_frames} frames are too few for {dims} dimensions; give a corpus with more "
                "recordings in its train split, a larger sample_utterances, or fewer dims"
            )
        values, vectors = np.linalg.eigh(moments.covariance)
        values, vectors = values[::-1][:dims], vectors[:, ::-1][:, :dims].T
        shares = values / max(np.trace(moments.covariance), np.finfo(float).tiny)  # of silence alone it is 0
        if shares[-1] <= MIN_VARIANCE_SHARE:
            varying = int((shares > MIN_VARIANCE_SHARE).sum())
            raise CorpusError(
                f"the teacher's vectors vary in {varying} directions only; set dims={max(varying, 1)} "
                "or fewer, or give recordings with speech"
            )
        projection = _signed(vectors) / np.sqrt(values)[:, None]
        return cls(moments.mean.astype(np.float32), projection.astype(np.float32), shares)

    def project(self, frames: np.ndarray) -> np.ndarray:
        """Float32 `[T, width]` to `[T, D]`."""
        return (frames - self.mean) @ self.projection.T

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self._asdict().items()}
        return safetensors.numpy.save(arrays)

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Self:
        """What `to_bytes` gave.

        Raises:
            CorpusError: when the file `name` is damaged.
        """
        try:
            return cls(**safetensors.numpy.load(data))
        except (safetensors.SafetensorError, TypeError) as error:
            raise CorpusError(f"{name} cannot be read ({error}); extract the features again") from error


def _signed(vectors: np.ndarray) -> np.ndarray:
    """An eigenvector's sign is free: its largest entry is made positive."""
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    return vectors * np.sign(largest)
