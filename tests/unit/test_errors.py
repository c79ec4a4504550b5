import pytest

from paluku.errors import ConfigError, exits_cleanly


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    @exits_cleanly
    def main() -> None:
        raise ConfigError("two\nlines")

    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: two lines\n"


def test_our_own_mistake_keeps_its_traceback() -> None:
    @exits_cleanly
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()
