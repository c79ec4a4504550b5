"""What a comparison leaves in its folder."""

from pathlib import Path

from jobs import promotion_files


def test_sound_of_an_earlier_comparison_is_not_taken_for_this_one(tmp_path: Path) -> None:
    earlier = [
        tmp_path / "codec" / "00_a" / "candidate.flac",
        tmp_path / "champion" / "samples" / "00_a.flac",
    ]
    own = tmp_path / "codec" / "final" / "card.json"
    for path in (*earlier, own):
        path.parent.mkdir(parents=True)
        path.touch()
    promotion_files._sweep(tmp_path)
    assert not any(path.exists() for path in earlier)
    assert own.exists()
