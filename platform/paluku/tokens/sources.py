"""What folders of tokens that a run reads together have in common, and what its model's card says of them."""

import hashlib
from collections.abc import Iterable, Sequence

from paluku.corpus.shards import Manifest, ShardSet
from paluku.errors import CheckpointError

MADE_WITH = ("codec", "tokenizer")


def made_with(manifest: Manifest) -> dict[str, str]:
    """Hashes of the codec and the tokenizer."""
    return {part: manifest.parents[part] for part in MADE_WITH}


def check_alike(sets: Sequence[ShardSet], setting: str = "") -> None:
    """Refuse tokens that were made otherwise than the first ones; `setting` names them in the message.

    Raises:
        CheckpointError: when codec or tokenizer is another one.
    """
    first, *others = sets
    for tokens in others:
        for part in MADE_WITH:
            own, other = (each.manifest.parents.get(part) for each in (first, tokens))
            if other != own:
                raise CheckpointError(
                    f"{setting}{tokens.folder} was made with {part} {other}, {first.folder} with {own}; "
                    "extract both with the same"
                )


def joint_hash(manifests: Iterable[Manifest]) -> str:
    """One hash for folders in this order."""
    return hashlib.sha256(" ".join(each.hash for each in manifests).encode()).hexdigest()[:16]
