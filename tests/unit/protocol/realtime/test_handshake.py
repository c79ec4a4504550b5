"""Sub-protocols: what is selected, and that the key stays unsaid."""

from paluku.protocol.realtime.handshake import read_offer


def test_realtime_is_selected_when_it_is_offered() -> None:
    offer = read_offer(["realtime", "openai-insecure-api-key.pk_secret", "openai-beta.realtime-v1"])
    assert offer == ("realtime", "pk_secret")
    assert read_offer([]) == (None, None)
    assert read_offer(["other"]).subprotocol is None
    assert read_offer(["openai-insecure-api-key."]).key is None


def test_the_key_is_in_no_text() -> None:
    offer = read_offer(["openai-insecure-api-key.pk_secret"])
    assert "pk_secret" not in f"{offer} {offer!r}"
