"""The published EnCodec file's layout, and ours.

The file holds each convolution's weight as length and direction (`weight_g`, `weight_v`: torch's old
weight_norm), and 32 codebooks with their training statistics.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from paluku.errors import CheckpointError

# Our names of a weight's length and direction: torch's parametrisation of today.
LENGTH, DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"


def converted(published: object, expected: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The library's state dict with the names, shapes and number of codebooks of `expected`, our own.

    Raises:
        CheckpointError: when `published` is no such state dict, or lacks, adds or sizes a tensor otherwise.
    """
    if not isinstance(published, Mapping) or not all(isinstance(each, Tensor) for each in published.values()):
        raise _misfit(origin, "it is no mapping of names to tensors")
    return _networks(published, expected, origin) | _quantizer(published, expected, origin)


def multiplied_out(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every length and direction as one weight; other tensors as they are."""
    result = dict(weights)
    for name in [name for name in weights if name.endswith(DIRECTION)]:
        stem = name.removesuffix(DIRECTION)
        if stem + LENGTH in result:
            direction, length = result.pop(name), result.pop(stem + LENGTH)
            norm = direction.flatten(1).norm(dim=1).view(-1, *[1] * (direction.dim() - 1))
            result[f"{stem}weight"] = direction * (length / norm)
    return result


def _networks(
    published: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: str
) -> dict[str, Tensor]:
    networks = ("encoder.", "decoder.")
    ours = {
        name.replace("weight_g", LENGTH).replace("weight_v", DIRECTION): value.float()
        for name, value in published.items()
        if name.startswith(networks)
    }
    wanted = {name: value for name, value in expected.items() if name.startswith(networks)}
    if not any(name.endswith(LENGTH) for name in wanted):
        ours = multiplied_out(ours)
    _compare(ours, wanted, origin)
    return ours


def _quantizer(
    published: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: str
) -> dict[str, Tensor]:
    """The first codebooks, and how often each entry was chosen."""
    wanted = {}
    for k, entries in enumerate(expected["quantizer.codebooks"]):
        book = f"quantizer.vq.layers.{k}._codebook"
        wanted |= {f"{book}.embed": entries, f"{book}.cluster_size": expected["quantizer.counts"][k]}
    found = {name: published[name].float() for name in wanted if name in published}
    _compare(found, wanted, origin)
    entries = torch.stack([found[name] for name in wanted if name.endswith("embed")])
    counts = torch.stack([found[name] for name in wanted if name.endswith("cluster_size")])
    return {
        "quantizer.codebooks": entries,
        "quantizer.counts": counts,
        # Not the file's own sums: training begins from the entries as they are.
        "quantizer.sums": entries * counts[..., None],
        "quantizer.updates": expected["quantizer.updates"],
    }


def _compare(given: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: str) -> None:
    """Raises `CheckpointError` naming the first difference."""
    for name in sorted(expected.keys() | given.keys()):
        if name not in given:
            raise _misfit(origin, f"it lacks {name}")
        if name not in expected:
            raise _misfit(origin, f"it has {name}, which EnCodec of these sizes has not")
        found, wanted = list(given[name].shape), list(expected[name].shape)
        if found != wanted:
            raise _misfit(origin, f"its {name} is {found}, not {wanted}")


def _misfit(origin: str, difference: str) -> CheckpointError:
    return CheckpointError(
        f"{origin} does not fit EnCodec 24 kHz with the configured sizes: {difference}; "
        "give the published encodec_24khz file, or the sizes that this file was made with"
    )
