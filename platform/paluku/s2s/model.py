"""The full-duplex S2S model: a temporal transformer over frames, a depth transformer within a frame.

After Moshi (Défossez et al. 2024, arXiv:2410.00037, sections 3.4.1 to 3.4.4). At position `t` the
temporal transformer takes the sum of embeddings of the user's codes of frame `t` and of our own text
token and codes of position `t - 1`. From its output come the text token of `t` and then, one by one in
the depth transformer, our codes of position `t`: codebook 0 of frame `t`, the others of frame
`t - acoustic_delay` (`tokens.layout`).

The transcript of what the user said is predicted too, from the same output, or told by `hearing`. It is read
by nobody within the model, or, with `hears_transcript`, goes in again at the next position beside the user's
codes: no step waits for it, and no text stands between speech and speech.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paluku.nn.attention import since_start
from paluku.nn.embedding import SummedEmbedding
from paluku.nn.transformer import Transformer
from paluku.s2s.conditioning import Conditioning, ConditionRows
from paluku.s2s.config import DepthConfig, HearingConfig, S2SConfig
from paluku.s2s.hearing import Hearing
from paluku.shapes import Codes

__all__ = ["DepthConfig", "DepthModel", "HearingConfig", "Logits", "S2SConfig", "S2SModel"]

# The deviation that keeps a transformer's first outputs near zero whatever its width (GPT-2's choice).
INIT_DEVIATION = 0.02


class Logits(NamedTuple):
    """What the model says of every position of the delayed layout; of codes, at `M` of them."""

    text: Float[Tensor, "B T Vt"]
    user_text: Float[Tensor, "B T Vt"] | None
    codes: Float[Tensor, "M K V"]


class DepthModel(nn.Module):
    """Codes of one position, each from the temporal output, the text token and the codes before it.

    Step `k` adds the temporal output, through a projection of its own, to the embedding of the step's
    token (the text token at step 0, code `k - 1` after it), and predicts code `k` (Moshi, section 3.4.2).
    """

    def __init__(self, config: S2SConfig) -> None:
        super().__init__()
        depth, dim, K = config.depth, config.depth.dim, config.num_codebooks
        self.from_temporal = nn.Linear(config.dim, K * dim, bias=False)
        # The row for the initial token is Moshi's too; nobody reads it.
        self.text = nn.Embedding(config.text_vocab + 1, dim)
        self.codes = nn.ModuleList(nn.Embedding(config.codebook_size + 1, dim) for _ in range(K - 1))
        self.transformer = Transformer(
            dim,
            depth.layers,
            depth.heads,
            window=K,
            feedforward_dim=depth.feedforward_dim,
            norm_epsilon=config.norm_epsilon,
            rope_base=config.rope_base if depth.rotary else None,
            steps=K if depth.per_step else None,
            last_norm=depth.last_norm,
        )
        self.heads = nn.ModuleList(nn.Linear(dim, config.codebook_size, bias=False) for _ in range(K))

    def forward(
        self, temporal: Float[Tensor, "N D"], text: Int[Tensor, "N"], codes: Int[Tensor, "N K"]
    ) -> Float[Tensor, "N K V"]:
        """All steps at once, given the tokens of `N` positions."""
        embedded = [self.text(text), *(self.codes[k](codes[:, k]) for k in range(len(self.codes)))]
        hidden = self.transformer(torch.stack(embedded, dim=1) + self.projected(temporal))
        # unbind: one backward for all steps, where eight slices each fill a tensor with zeros.
        steps = zip(self.heads, hidden.unbind(1), strict=True)
        return torch.stack([head(step) for head, step in steps], dim=1)

    def projected(self, temporal: Float[Tensor, "N D"]) -> Float[Tensor, "N K E"]:
        """What each step takes from the temporal transformer."""
        return self.from_temporal(temporal).unflatten(-1, (len(self.heads), -1))

    def embed(self, k: int, token: Int[Tensor, "N"]) -> Float[Tensor, "N E"]:
        """The token that step `k` begins with."""
        return self.text(token) if k == 0 else self.codes[k - 1](token)


class S2SModel(nn.Module):
    """See the module. `s2s.duplex` is the same model a frame at a time."""

    def __init__(self, config: S2SConfig) -> None:
        super().__init__()
        self.config = config
        K, V = config.num_codebooks, config.codebook_size
        self.embedding = SummedEmbedding([*[V + 1] * K, config.text_vocab + 1, *[V + 1] * K], config.dim)
        self.hearing = None if config.hearing is None else Hearing(config, config.hearing)
        self.conditioning = Conditioning(config.dim, config.speaker_dim)
        self.temporal = Transformer(
            config.dim,
            config.layers,
            config.heads,
            config.window,
            feedforward_dim=config.feedforward_dim,
            norm_epsilon=config.norm_epsilon,
            rope_base=config.rope_base,
        )
        self.text_head = nn.Linear(config.dim, config.text_vocab, bias=False)
        self.user_text_head = (
            nn.Linear(config.dim, config.text_vocab, bias=False) if config.user_text else None
        )
        self.transcript = nn.Embedding(config.text_vocab + 1, config.dim) if config.hears_transcript else None
        self.depth = DepthModel(config)
        nulls = self.conditioning.no_speaker, self.conditioning.no_style
        for weight in (*nulls, *(weight for weight in self.parameters() if weight.dim() > 1)):
            nn.init.normal_(weight, std=INIT_DEVIATION)

    def forward(
        self,
        agent_codes: Codes,
        user_codes: Codes,
        text: Int[Tensor, "B T"],
        document: Int[Tensor, "B T"],
        rows: ConditionRows,
        depth_at: Int[Tensor, "M"] | None = None,
        recompute: bool = False,
        user_text: Int[Tensor, "B T"] | None = None,
        sees_own: Bool[Tensor, "B T"] | None = None,
    ) -> Logits:
        """What the model says of each position, given the true tokens before it.

        `document[b, t]` is the row of `rows` that the frame belongs to, -1 for none: documents lie one
        after the other in a row, and each begins as a fresh session does, whatever lies before it.
        `agent_codes` are frames, not yet delayed. `depth_at` are the flat positions `b * T + t` whose
        codes are predicted; None: all. `recompute` as in `Transformer.forward`. A model that hears its
        transcript asks for `user_text`. Where not `sees_own`, our codes of the position before do not go in;
        None: they all do.
        """
        position, own = since_start(document), self.delayed(agent_codes, document)
        user = self.heard(user_codes, position)
        x = self._embedded(user, text, own, position, sees_own)
        if self.transcript is not None:
            assert user_text is not None, "the model hears its transcript: give user_text"
            told = user_text.roll(1, dims=1).masked_fill(position == 0, self.config.initial_text)
            x = x + self.transcript(told)
        if self.hearing is not None:
            x = x + self.hearing(user, position).features
        conditions = torch.where((document >= 0)[..., None], self.conditioning(rows)[document], 0)
        hidden = self.temporal(x + conditions, document, recompute)
        given = hidden.flatten(0, 1), text.flatten(), own.transpose(1, 2).flatten(0, 1)
        if depth_at is not None:
            given = tuple(each[depth_at] for each in given)
        return Logits(
            self.text_head(hidden),
            None if self.user_text_head is None else self.user_text_head(hidden),
            checkpoint(self.depth, *given, use_reentrant=False) if recompute else self.depth(*given),
        )

    @property
    def tells_by_hearing(self) -> bool:
        """Whether the user's transcript is what `hearing` hears: no head of the transformer tells it."""
        return self.hearing is not None and self.user_text_head is None

    def delayed(self, agent_codes: Codes, document: Int[Tensor, "B T"]) -> Codes:
        """Our codes in the delay layout, which every document begins anew: what the model predicts.

        `pad_code` where the layout has no frame. What the delay moves past a document's end is dropped.
        """
        position, nothing = since_start(document), self.config.pad_code
        shifted = [
            torch.where((position >= d) & (document >= 0), _later(codes, d), nothing)
            for codes, d in zip(agent_codes.unbind(1), self.config.delays, strict=True)
        ]
        return torch.stack(shifted, dim=1)

    def heard(self, user_codes: Codes, position: Int[Tensor, "B T"]) -> Codes:
        """The user's codes as they go in at each `position` of its document: their frame, at once.

        With `user_delay` as in Moshi, whose sequence begins with a position that hears nothing: codebook
        `k` of frame `t - user_delays[k]`, and `pad_code` at the positions up to `user_delays[k]`.
        """
        if self.config.user_delay is None:
            return user_codes
        late = [
            torch.where(position > d, _later(codes, d), self.config.pad_code)
            for codes, d in zip(user_codes.unbind(1), self.config.user_delays, strict=True)
        ]
        return torch.stack(late, dim=1)

    def heard_now(
        self, user_codes: Int[Tensor, "B K"], earlier: Int[Tensor, "B A K2"], lived: Int[Tensor, "B"]
    ) -> Int[Tensor, "B K"]:
        """`heard` in a stream, for seats that have lived through `lived` frames.

        `earlier` are the acoustic codes of the last `A = user_delay` frames, oldest first; `A` is 0 where
        there is no such delay.
        """
        if self.config.user_delay is None:
            return user_codes
        # No tensor is built from numbers here: a CUDA graph cannot take a copy from the host.
        acoustic = torch.cat((earlier, user_codes[:, None, 1:]), dim=1)[:, 0]
        late = zip((user_codes[:, :1], acoustic), (0, self.config.user_delay), strict=True)
        nothing = self.config.pad_code
        return torch.cat([codes.masked_fill((lived <= d)[:, None], nothing) for codes, d in late], dim=1)

    def initial(self, batch: int) -> Int[Tensor, "B N"]:
        """Our tokens before the first position: `1 + K` a row, text first."""
        K = self.config.num_codebooks
        row = torch.tensor([self.config.initial_text, *[self.config.pad_code] * K])
        return row.to(self.text_head.weight.device).expand(batch, -1)

    def code_embeddings(self) -> list[Float[Tensor, "K V1 E"]]:
        """The rows of the user's codes and of ours in the temporal input, and of the user's in `hearing`.

        Views; the last row of a codebook is `pad_code`.
        """
        K, V1 = self.config.num_codebooks, self.config.codebook_size + 1
        table = self.embedding.table
        tables = [table[: K * V1], table[-K * V1 :]]
        if self.hearing is not None:
            tables.append(self.hearing.codes.table)
        return [each.unflatten(0, (K, V1)) for each in tables]

    def embed(self, user: Int[Tensor, "B K"], before: Int[Tensor, "B N"]) -> Float[Tensor, "B D"]:
        """The temporal input before conditioning: the user's codes, our tokens of the position before."""
        return self.embedding(torch.cat((user, before), dim=1))

    def _embedded(
        self,
        user: Codes,
        text: Int[Tensor, "B T"],
        own: Codes,
        position: Int[Tensor, "B T"],
        sees_own: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T D"]:
        """The temporal inputs of whole rows."""
        tokens = torch.cat((text[:, None], own), dim=1).transpose(1, 2)
        begins = (position == 0)[..., None]
        before = torch.where(begins, self.initial(len(text))[:, None], tokens.roll(1, dims=1))
        if sees_own is not None:
            codes = before[..., 1:].masked_fill(~sees_own[..., None], self.config.pad_code)
            before = torch.cat((before[..., :1], codes), dim=-1)
        x = self.embed(user.transpose(1, 2).flatten(0, 1), before.flatten(0, 1))
        return x.unflatten(0, text.shape)


def _later(codes: Int[Tensor, "B T"], frames: int) -> Int[Tensor, "B T"]:
    """Moved right; what comes in on the left has no meaning."""
    return codes.roll(frames, dims=1)
