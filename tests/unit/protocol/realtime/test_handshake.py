"""Sub-protocols: what is selected, and that the key stays unsaid."""

from paluku.protocol.realtime.handshake import selected


def test_realtime_is_selected_when_it_is_offered_and_a_key_never() -> None:
    offered = ["realtime", "openai-insecure-api-key.pk_secret", "openai-beta.realtime-v1"]
    assert selected(offered) == "realtime"
    assert selected(offered[1:]) is None
    assert selected([]) is None
