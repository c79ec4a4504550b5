"""The one legend of shapes.

`B` batch or seats, `C` channels, `S` samples, `T` codec frames, `K` codebooks, `V` codebook size,
`D` width, `H` heads, `L` layers, `W` window (ring length, in frames).
Codes are `[B, K, T]`, waves `[B, C, S]`, sequences `[B, T, D]`.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Wave = Float[Tensor, "B C S"]
MonoWave = Float[Tensor, "B 1 S"]
Codes = Int[Tensor, "B K T"]
Latent = Float[Tensor, "B D T"]
Sequence = Float[Tensor, "B T D"]
Mask = Bool[Tensor, "B"]
