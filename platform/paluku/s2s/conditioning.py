"""Who speaks and how: learned embeddings of the reply's voice and style, added to every frame."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from paluku.voices import STYLES, VOICES


class Conditioning(nn.Module):
    """Rows are in the order of `paluku.voices`: appending a voice or a style moves no other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.voice = nn.Embedding(len(VOICES), dim)
        self.style = nn.Embedding(len(STYLES), dim)

    def forward(self, voice: Int[Tensor, "B"], style: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """The sum of both, to be added to a seat's every input."""
        return self.voice(voice) + self.style(style)
