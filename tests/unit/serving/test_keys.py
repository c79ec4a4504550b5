import logging
from pathlib import Path

import pytest

from jobs.keys import append
from paluku.errors import ConfigError
from paluku.serving.config import SecurityConfig
from paluku.serving.keys import HashedKey, Keys, hashed, new_key, read_keys

KEY = "pk_a-key-long-enough-for-anyone"


def written(path: Path, *entries: HashedKey) -> Path:
    path.write_text("".join(f"{entry.model_dump_json()}\n" for entry in entries), encoding="utf-8")
    return path


def test_a_key_file_written_by_hand_is_understood() -> None:
    # printf '%s' '00112233aabbccdd:correct horse battery staple' | sha256sum
    entry = HashedKey(
        name="demo",
        salt="00112233aabbccdd",
        sha256="2b8bdabb27b6de97677aeed09913efdd6a37e41f84760861146aa50b9fb45f51",
    )
    assert entry.fits("correct horse battery staple")
    assert not entry.fits("correct horse battery")


def test_keys_are_random_and_their_hashes_salted() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert len(first) == len("pk_") + 43  # 32 bytes as base64
    one, two = hashed("a", first), hashed("a", first)
    assert one.sha256 != two.sha256
    assert one.fits(first)
    assert two.fits(first)
    assert not one.fits(second)


def test_only_the_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    append(path, hashed("phone", KEY))
    assert KEY not in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_key_of_file_and_variable_opens_under_its_own_name(tmp_path: Path) -> None:
    path = written(tmp_path / "keys", hashed("one", KEY + "1"), hashed("two", KEY + "2"))
    keys = Keys(SecurityConfig(keys_file=path), {"PALUKU_KEYS": f"three={KEY}3, four={KEY}4"})
    names = [keys.holder(KEY + end) for end in ("1", "2", "3", "4", "5", "")]
    assert names == ["one", "two", "three", "four", None, None]
    assert keys.holder("") is None
    assert keys.holder("\udcff\x00") is None


def test_a_file_that_changes_is_followed(tmp_path: Path) -> None:
    path = written(tmp_path / "keys", hashed("old", KEY))
    keys = Keys(SecurityConfig(keys_file=path), {})
    assert keys.holder(KEY) == "old"
    append(path, hashed("new", KEY + "2"))
    assert keys.holder(KEY + "2") == "new"
    written(path)
    assert keys.holder(KEY) is None
    assert keys.are_configured  # no key is valid, which is not the same as an open door


def test_a_file_that_breaks_neither_opens_nor_locks_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "keys", hashed("phone", KEY))
    keys = Keys(SecurityConfig(keys_file=path), {})
    with caplog.at_level(logging.DEBUG):
        path.write_text(f"phone {KEY} and what else an editor leaves", encoding="utf-8")
        assert keys.holder(KEY) == "phone"
        path.unlink()
        assert keys.holder(KEY) == "phone"
        assert keys.holder("another") is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("", "entry 1 of PALUKU_KEYS must be NAME=KEY"),
        (f"ok={KEY},{KEY}", "entry 2"),
        ("phone=short", "entry 1 of PALUKU_KEYS .* 20 characters"),
    ],
)
def test_a_malformed_variable_stops_the_start_and_is_not_quoted(variable: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Keys(SecurityConfig(), {"PALUKU_KEYS": variable})
    assert KEY not in str(caught.value)


def test_a_broken_file_stops_the_start_and_is_not_quoted(tmp_path: Path) -> None:
    path = written(tmp_path / "keys", hashed("phone", KEY))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"plain={KEY}\n")
    with pytest.raises(ConfigError, match="line 2 of keys file") as caught:
        Keys(SecurityConfig(keys_file=path), {})
    assert KEY not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "nowhere")


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    append(path, hashed("phone", KEY))
    with pytest.raises(ConfigError, match="has a key named 'phone'"):
        append(path, hashed("phone", KEY + "2"))
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]


def test_without_file_or_variable_there_are_no_keys() -> None:
    assert not Keys(SecurityConfig(), {}).are_configured
    assert not Keys(SecurityConfig(keys_env=""), {"PALUKU_KEYS": f"phone={KEY}"}).are_configured
