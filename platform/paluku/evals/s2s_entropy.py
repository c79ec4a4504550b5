"""How well a model foretells recorded dialogues, token by token, given all that was true before each.

One forward over a whole dialogue, from its first frame, as a session begins: no cropping, nothing packed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paluku.evals.s2s_cases import Case
from paluku.evals.s2s_drive import Parts, condition_rows
from paluku.tokens.extract import dialogue_tokens
from paluku.tokens.text import PAD

TEXT, USER_TEXT, FIRST_CODEBOOK = "text", "user_text", "codes_0"
# Of the text streams without the frames that have no text.
WORDS = "_words"


class Entropy(NamedTuple):
    """Of one stream over all dialogues."""

    stream: str
    nats: float  # mean cross-entropy of a token
    tokens: int

    @property
    def perplexity(self) -> float:
        """Among how many equally likely tokens the model is left to choose."""
        return math.exp(self.nats)


def entropies(parts: Parts, cases: Sequence[Case], step: Callable[[], None] = lambda: None) -> list[Entropy]:
    """Of `text`, of `text_words` (its frames with text), the same of what the user says, and each codebook.

    `step` is called for each case.
    """
    sums: dict[str, list[float]] = {}
    for case in cases:
        row = dialogue_tokens(case.row, parts.codec, parts.tokenizer)
        for stream, losses in losses_of(parts, case, row).items():
            total = sums.setdefault(stream, [0.0, 0.0])
            total[0] += float(losses.double().sum())
            total[1] += len(losses)
        step()
    return [Entropy(name, nats / count, int(count)) for name, (nats, count) in sums.items() if count]


@torch.inference_mode()
def losses_of(parts: Parts, case: Case, row: Mapping[str, Any]) -> dict[str, Tensor]:
    """Nats of each token of one dialogue, by stream; `row` is its tokens."""
    model, K = parts.model, parts.model.config.num_codebooks
    device = model.text_head.weight.device

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(np.asarray(row[name]).astype(np.int64)).to(device)

    agent, user = (tensor(name).view(1, K, -1) for name in ("agent_codes", "user_codes"))
    text, user_text = tensor("text"), tensor("user_text")
    document = torch.zeros(1, len(text), dtype=torch.int64, device=device)
    rows = condition_rows(model, [(case.voice, case.style)])
    logits = model(agent, user, text[None], document, rows, user_text=user_text[None])
    found = _of_text(TEXT, logits.text[0], text)
    if logits.user_text is not None:
        found |= _of_text(USER_TEXT, logits.user_text[0], user_text)
    own = model.delayed(agent, document)[0]
    for k in range(K):
        stands = own[k] < model.config.codebook_size
        found[f"codes_{k}"] = _nats(logits.codes[:, k][stands], own[k][stands])
    return found


def _of_text(name: str, logits: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    losses = _nats(logits, tokens)
    return {name: losses, name + WORDS: losses[tokens != PAD]}


def _nats(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), tokens, reduction="none")
