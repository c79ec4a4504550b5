from pathlib import Path

import pytest

from paluku.config import AbsolutePath, Config, apply, load, split_section
from paluku.errors import ConfigError


class Inner(Config):
    width: int = 4


class Outer(Config):
    name: str
    inner: Inner = Inner()
    out: AbsolutePath | None = None


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "name: a\ninner: {width: 8}\n")
    assert load(Outer, path, ["inner.width=16", "name=b"]) == Outer(name="b", inner=Inner(width=16))


def test_json_round_trip_keeps_the_digest() -> None:
    config = Outer(name="పలుకు", inner=Inner(width=2))
    again = Outer.from_json(config.to_json(), "here")
    assert again == config
    assert again.digest() == config.digest() != Outer(name="పలుకు").digest()


@pytest.mark.parametrize(
    ("text", "overrides", "says"),
    [
        ("name: a\nwidht: 3\n", [], "unknown key 'widht'"),
        ("name: a\ninner: {depth: 3}\n", [], "unknown key 'inner.depth'"),
        ("inner: {width: 3}\n", [], "name: Field required"),
        ("name: a\ninner: {width: wide}\n", [], "inner.width"),
        ("name: a\nout: here/there\n", [], "must be absolute"),
        ("- a\n- b\n", [], "must hold a mapping"),
        ("name: [unclosed\n", [], "not valid YAML"),
        ("name: a\n", ["inner.width"], "must have the form"),
        ("name: a\n", ["name.first=b"], "has no keys below it"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, overrides: list[str], says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=says):
        load(Outer, path, overrides)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        load(Outer, tmp_path / "nowhere.yaml")


def test_half_written_json_is_named() -> None:
    with pytest.raises(ConfigError, match="half-written"):
        Outer.from_json('{"name": "a', "config.json")


def test_apply_leaves_its_argument_alone() -> None:
    values = {"inner": {"width": 1}}
    assert apply(values, ["inner.width=2"]) == {"inner": {"width": 2}}
    assert values == {"inner": {"width": 1}}


def test_split_section() -> None:
    assert split_section(["a=1", "p.x=2", "p.y.z=no"], "p") == ({"x": 2, "y": {"z": False}}, ["a=1"])
