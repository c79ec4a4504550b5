"""Where the models lie that come with the repository."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def shipped(name: str, checkout: Path = CHECKOUT) -> Path:
    """`models/NAME` of the checkout, whether it is there or not.

    A submitted job has its package in one folder and the rest of the checkout as its working directory.
    """
    beside, below = checkout / "models" / name, Path.cwd() / "models" / name
    return below if below.is_dir() and not beside.is_dir() else beside
