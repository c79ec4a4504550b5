"""Settings of a corpus that is published as archives, and getting them."""

from paluku.corpus.download import Archive, provide
from paluku.corpus.sources.tree import CorpusFolder, Tree, first_held
from paluku.errors import CorpusError


class PublishedFolder(CorpusFolder):
    """The corpus lies in `folder`, unpacked or as its archives; `download` fetches what is not there."""

    download: bool = False


def published_tree(
    config: PublishedFolder, archives: tuple[Archive, ...], top: str = "", mark: str = ""
) -> Tree:
    """Where the corpus lies, its archives unpacked; in an object store it must lie there unpacked.

    `top` is the folder that the archives make, `mark` a file in it: `config.folder` may be it.

    Raises:
        CorpusError: when something is missing; the message says from where it can be had.
        NotFetched: in a dry run, when something is still to be fetched or unpacked.
    """
    tree = Tree(config.folder)
    if mark and tree.has(mark):
        return tree
    if tree.place.local is not None:
        provide(archives, tree.place.local, download=config.download, only_look=config.only_look)
    elif not all(tree.holds(archive.holds) for archive in archives):
        wanted = ", ".join(archive.holds for archive in archives)
        raise CorpusError(f"{tree} does not hold {wanted}; unpack {archives[0].url} there")
    return first_held(tree, (top,), mark) if mark else tree
