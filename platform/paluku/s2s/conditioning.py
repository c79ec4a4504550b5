"""Who speaks and how: the reply's speaker and style, added to every frame's input.

A speaker is a unit vector of the speaker encoder: one of the four voices, or that of a reference
recording. Either condition can be left out; a learned null vector then stands in its place, so that a
model trained with some conditions dropped also knows what it would say without them (classifier-free
guidance, Ho & Salimans 2022, arXiv:2207.12598).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from paluku.voices import STYLES, VOICES


class ConditionRows(NamedTuple):
    """Of `N` documents or seats. A dropped condition's value must be valid and does not matter."""

    speaker: Float[Tensor, "N E"]  # of unit length
    style: Int[Tensor, "N"]  # its place in `paluku.voices.STYLES`
    has_speaker: Bool[Tensor, "N"]
    has_style: Bool[Tensor, "N"]

    def to(self, device: torch.device) -> "ConditionRows":
        """The same on a device."""
        return ConditionRows(*(tensor.to(device) for tensor in self))

    def dropped(self) -> "ConditionRows":
        """The same documents with neither condition."""
        nowhere = torch.zeros_like(self.has_speaker)
        return self._replace(has_speaker=nowhere, has_style=nowhere)


class Conditioning(nn.Module):
    """Rows of `style` are in the order of `paluku.voices`: appending a style moves no other."""

    voices: Float[Tensor, "4 E"]

    def __init__(self, dim: int, speaker_dim: int) -> None:
        super().__init__()
        self.speaker = nn.Linear(speaker_dim, dim, bias=False)
        self.style = nn.Embedding(len(STYLES), dim)
        self.no_speaker = nn.Parameter(torch.randn(dim))
        self.no_style = nn.Parameter(torch.randn(dim))
        # Of `paluku.voices.VOICES`, in that order. Until training writes those of the speaker encoder
        # here, they are orthonormal: four speakers as different as can be.
        self.register_buffer("voices", torch.eye(len(VOICES), speaker_dim))

    def forward(self, rows: ConditionRows) -> Float[Tensor, "N D"]:
        """The sum of both, to be added to the inputs of every frame."""
        speaker = torch.where(rows.has_speaker[:, None], self.speaker(rows.speaker), self.no_speaker)
        style = torch.where(rows.has_style[:, None], self.style(rows.style), self.no_style)
        return speaker + style

    def rows(self, voice: Int[Tensor, "N"], style: Int[Tensor, "N"]) -> ConditionRows:
        """Both conditions given, the speaker as one of the voices."""
        everyone = torch.ones_like(voice, dtype=torch.bool)
        return ConditionRows(self.voices[voice], style, everyone, everyone)
