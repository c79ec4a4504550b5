"""The page's own logic, in the browser: it says what the Python side says, and keeps the same laws."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from paluku.client.alignment import MicrophoneFramer
from paluku.protocol import messages, native
from paluku.protocol.messages import Adjust, Hello, ResumeRequest
from paluku.protocol.resampling import Resampler
from paluku.voices import STYLES, VOICES
from tests.browser.server import Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

READY = messages.Ready(
    session_id="s1",
    resume_token="secret",
    grace_s=30,
    sample_rate_hz=16_000,
    frame_samples=640,
    frame_ms=40,
    acoustic_delay_frames=1,
    next_frame=7,
    next_reply=8,
    tick_in_ms=12.5,
    lead_ms=12,
    capabilities=("align", "text"),
    server="paluku/0",
)
ERROR = messages.Error(code="no_seat", message="all 2 seats are taken; ఆగండి \ud800", retry_s=5)
# The least and greatest numbers a field holds among them.
SAID_BY_SERVER: list[tuple[messages.ServerMessage, dict[str, Any]]] = [
    (READY, {"type": "ready", **READY.model_dump(mode="json")}),
    (ERROR, {"type": "error", **ERROR.model_dump(mode="json")}),
    (
        messages.Stats(frames_in=3, frames_out=2, late_frames=1, tick_p50_ms=4.5, tick_p99_ms=9),
        {
            "type": "stats",
            "frames_in": 3,
            "frames_out": 2,
            "late_frames": 1,
            "tick_p50_ms": 4.5,
            "tick_p99_ms": 9,
            "margin_ms": None,
        },
    ),
    (
        messages.ReplyAudio(2**32 - 1, True, False, 12.5, b"\x01\x00\xff\x7f\x00\x80"),
        {
            "type": "audio",
            "seq": 2**32 - 1,
            "present": True,
            "audible": False,
            "spentMs": 12.5,
            "samples": [1, 32767, -32768],
        },
    ),
    (
        messages.ReplyAudio(0, False, True, 0.0, b""),
        {"type": "audio", "seq": 0, "present": False, "audible": True, "spentMs": 0, "samples": []},
    ),
    (messages.Text(5, "నమస్తే"), {"type": "text", "seq": 5, "text": "నమస్తే"}),
    (messages.UserText(6, "é"), {"type": "userText", "seq": 6, "text": "é"}),
    (
        messages.Turn("reply", "stopped", 70_000),
        {"type": "turn", "who": "reply", "event": "stopped", "frame": 70_000},
    ),
    (messages.Turn("user", "started", 0), {"type": "turn", "who": "user", "event": "started", "frame": 0}),
    (messages.Interrupted(9), {"type": "interrupted", "frame": 9}),
    (messages.Align(-19.5), {"type": "align", "shiftMs": -19.5}),
    (messages.Marked(11, "ఇది"), {"type": "marked", "frame": 11, "label": "ఇది"}),
]
SAID_BY_CLIENT: list[tuple[str, messages.ClientMessage]] = [
    (
        """wire.hello({sample_rate_hz: 16000, voice: 'ravi', style: 'telugu_mild', seed: 7,
          turn_taking: 'vad', capabilities: wire.CAPABILITIES, key: 'pk_కీ',
          resume: {token: 't', next_reply: 4}, temperature: 0.5})""",
        Hello(
            sample_rate_hz=16_000,
            voice="ravi",
            style="telugu_mild",
            seed=7,
            turn_taking="vad",
            capabilities=messages.CAPABILITIES,
            key="pk_కీ",
            resume=ResumeRequest(token="t", next_reply=4),
            temperature=0.5,
        ),
    ),
    (
        "wire.audio(4294967295, Int16Array.of(1, -2, 32767))",
        messages.UserAudio(2**32 - 1, b"\x01\x00\xfe\xff\xff\x7f"),
    ),
    ("wire.end()", messages.End()),
    ("wire.adjust({voice: 'arjun', top_k: 3})", Adjust(voice="arjun", top_k=3)),
    ("wire.interrupt()", messages.Interrupt()),
    ("wire.forget()", messages.Forget()),
    ("wire.played(300)", messages.Played(300)),
    ("wire.mark('ఇక్కడ')", messages.Mark("ఇక్కడ")),
]


@pytest.fixture(scope="module")
def run(browser: Any, server: Site) -> Any:
    """Evaluate the body of an async function of `given` that may use the page's modules."""
    context = browser.new_context()
    page: Page = context.new_page()
    page.goto(server.url)
    names = ("wire", "resampler", "jitter", "framing", "upstream", "latency", "choices", "words")
    imports = "".join(f"const {name} = await import('/web/{name}.js');" for name in names)
    yield lambda body, given=None: page.evaluate(f"async (given) => {{ {imports} {body} }}", given)
    context.close()


@pytest.mark.parametrize(("message", "expected"), SAID_BY_SERVER, ids=lambda case: type(case).__name__)
def test_the_page_reads_what_the_server_says(
    run: Any, message: messages.ServerMessage, expected: dict[str, Any]
) -> None:
    script = """
        const message = wire.decode(Uint8Array.from(given).buffer);
        if (message.bytes) { message.samples = [...wire.samplesOf(message.bytes)]; delete message.bytes; }
        return message;
    """
    assert run(script, list(native.encode(message))) == expected


@pytest.mark.parametrize(("script", "expected"), SAID_BY_CLIENT, ids=lambda case: type(case).__name__)
def test_the_server_reads_what_the_page_says(run: Any, script: str, expected: messages.ClientMessage) -> None:
    assert native.decode_client(bytes(run(f"return [...{script}];"))) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7f",
        b"\x82\x00",
        b"\x80",
        b"\x83\x00\x00\x00\x00\xff",
        b"\x86\x02\x00\x00\x00\x00\x00",
        b"\x81{",
    ],
)
def test_bytes_that_are_no_message_are_told_apart(run: Any, data: bytes) -> None:
    script = """
        try { wire.decode(Uint8Array.from(given).buffer); return 'read'; }
        catch (error) { return error instanceof wire.WireError; }
    """
    assert run(script, list(data)) is True


def test_voices_and_styles_are_those_of_the_protocol(run: Any) -> None:
    names = "[choices.VOICES, choices.STYLES].map((all) => all.map(([name]) => name))"
    assert run(f"return {names};") == [list(VOICES), list(STYLES)]


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(48_000, 16_000), (44_100, 16_000), (16_000, 48_000), (16_000, 16_000)]
)
def test_resampling_is_the_servers_own(run: Any, from_hz: int, to_hz: int) -> None:
    """Cut into the audio device's blocks, the same sound comes out as of Python's filter, in one piece."""
    sound = np.random.default_rng(1).integers(-20_000, 20_000, 128 * 30).astype(np.int16)
    expected = Resampler(from_hz, to_hz).push(sound)
    script = """
        const filter = new resampler.Resampler(given.from, given.to);
        const out = [], { sound } = given;
        for (let at = 0; at < sound.length; at += 128) out.push(...filter.push(sound.slice(at, at + 128)));
        return out;
    """
    heard = np.array(run(script, {"from": from_hz, "to": to_hz, "sound": sound.tolist()}))
    assert heard.shape == expected.shape
    assert np.abs(np.clip(heard, -32768, 32767) - expected).max() <= 0.51  # rounding to whole numbers


def test_what_the_wire_cannot_carry_is_filtered_out(run: Any) -> None:
    """11 kHz would fold to 5 kHz at 16 kHz; 1 kHz passes."""
    script = """
        return [1000, 11000].map((hz) => {
          const sine = Float32Array.from({length: 9600}, (_, n) => Math.sin(2 * Math.PI * hz * n / 48000));
          const out = new resampler.Resampler(48000, 16000).push(sine).slice(200);
          return Math.sqrt(out.reduce((sum, x) => sum + x * x, 0) / out.length);
        });
    """
    passes, folds = run(script)
    assert passes == pytest.approx(2**-0.5, rel=0.01)
    assert folds < 1e-3


def test_frames_are_cut_as_the_reference_client_cuts_them(run: Any) -> None:
    rng = np.random.default_rng(2)
    sound = rng.integers(-30_000, 30_000, 3_000).astype(np.int16)
    orders = [
        ("push", 500),
        ("correct", 130),
        ("push", 900),
        ("correct", -200),
        ("push", 700),
        ("correct", -330),
    ]
    orders += [("correct", 20), ("push", 900)]
    reference, expected, at = MicrophoneFramer(640), [], 0
    for what, number in orders:
        if what == "push":
            expected += [frame.tolist() for frame in reference.push(sound[at : at + number])]
            at += number
        else:
            reference.correct(number)
    script = """
        const framer = new framing.Framer(640);
        const frames = [];
        let at = 0;
        for (const [what, number] of given.orders) {
          if (what === 'push') {
            const sound = Float32Array.from(given.sound.slice(at, at + number), (x) => x / 32768);
            frames.push(...framer.push(sound));
            at += number;
          } else frames.push(...framer.correct(number));
        }
        return frames.map((frame) => [...frame]);
    """
    assert run(script, {"orders": orders, "sound": sound.tolist()}) == expected


# A steady network, its frames of 40 ms at 16 kHz in blocks of 8 ms, numbers for samples: what comes when.
PLAYER = """
    const FRAME = 640, BLOCK = 128;
    const buffer = new jitter.JitterBuffer(16000, 0.04);
    const heard = [];
    const play = (arrivals, untilS, each = () => {}) => {
      arrivals = [...arrivals].sort((a, b) => a.atS - b.atS);
      while (heard.length / 16000 < untilS) {
        const nowS = heard.length / 16000;
        while (arrivals.length && arrivals[0].atS <= nowS) {
          const { frame, level, atS } = arrivals.shift();
          buffer.push(frame, new Float32Array(FRAME).fill(level), level > 0, nowS);
        }
        const out = new Float32Array(BLOCK);
        buffer.pull(out, nowS);
        heard.push(...out);
        each(nowS);
      }
    };
    const steady = (count, level, lateS = () => 0) => {
      let lastS = 0;  // a socket keeps the order
      return Array.from({length: count}, (_, frame) => {
        lastS = Math.max(lastS, frame * 0.04 + lateS(frame));
        return { frame, level: level(frame), atS: lastS };
      });
    };
"""


def test_a_steady_reply_is_played_whole_in_order_and_soon(run: Any) -> None:
    script = """
        play(steady(50, (frame) => (frame < 49 ? (frame + 1) / 100 : 0)), 2.1);
        const from = heard.findIndex((sample) => sample > 0);
        const right = heard.slice(from, from + 49 * FRAME)
          .every((sample, n) => Math.abs(sample - (Math.floor(n / FRAME) + 1) / 100) < 1e-6);
        return { right, waitS: from / 16000, underruns: buffer.underruns, played: buffer.playedFrame };
    """
    told = run(PLAYER + script)
    assert (told["right"], told["underruns"], told["played"]) == (True, 0, 50)
    assert 0.012 <= told["waitS"] <= 0.03


def test_a_jumpy_network_is_waited_for_and_a_calm_one_no_longer(run: Any) -> None:
    """Every fifth frame 60 ms late: gaps at first, none once it is known; later silence is cut short."""
    script = """
        const level = (frame) => (frame % 25 < 20 ? 0.5 : 0);
        const jumpy = steady(400, level, (frame) => (frame % 5 === 4 && frame < 200 ? 0.06 : 0));
        let atHalf = null, waited = null;
        play(jumpy, 16, (nowS) => {
          if (nowS > 4 && atHalf === null) atHalf = buffer.underruns;
          if (nowS > 7.9 && waited === null) waited = { ...buffer };
        });
        const { underruns, targetS, skippedS } = buffer;
        return { atHalf, waited, calm: { underruns, targetS, skippedS } };
    """
    told = run(PLAYER + script)
    assert told["waited"]["underruns"] == told["atHalf"] > 0
    assert told["waited"]["targetS"] == pytest.approx(0.066, abs=0.01)
    assert told["calm"]["underruns"] == told["atHalf"]
    assert told["calm"]["targetS"] < 0.02
    assert told["calm"]["skippedS"] == pytest.approx(0.06, abs=0.03)  # the lateness that is gone


def test_an_interruption_is_heard_at_once_and_without_a_click(run: Any) -> None:
    """Half a second waits; 5 ms after the flush nothing sounds, and what comes later is played."""
    script = """
        const burst = Array.from({length: 12}, (_, frame) => ({ frame, level: 0.5, atS: 0 }));
        play(burst, 0.08);
        const at = heard.length, dropped = buffer.flush(0);
        play([{ frame: 20, level: 0.25, atS: 0.3 }], 0.5);
        const steps = heard.slice(at - 1).map((sample, n, all) => Math.abs(sample - (all[n - 1] ?? sample)));
        return { dropped: dropped / 16000, fades: heard.slice(at, at + 80).some((sample) => sample > 0),
                 after: Math.max(...heard.slice(at + 80, at + 1600)), later: heard.includes(0.25),
                 click: Math.max(...steps.slice(0, 1000)), played: buffer.playedFrame };
    """
    told = run(PLAYER + script)
    assert told["dropped"] == pytest.approx(12 * 0.04 - (0.08 - 0.02), abs=0.01)
    assert (told["fades"], told["after"], told["later"]) == (True, 0, True)
    assert told["click"] < 0.02
    assert told["played"] == 21


def test_frames_before_an_interruption_are_still_played(run: Any) -> None:
    script = """
        play(Array.from({length: 4}, (_, frame) => ({ frame, level: 0.5, atS: 0 })), 0.04);
        const dropped = buffer.flush(2);
        play([], 0.3);
        return { dropped, sounds: heard.filter((sample) => sample > 0).length, played: buffer.playedFrame };
    """
    told = run(PLAYER + script)
    assert (told["dropped"], told["sounds"], told["played"]) == (2 * 640, 2 * 640, 2)


def test_what_was_not_heard_is_sent_again_after_a_resume(run: Any) -> None:
    script = """
        const up = new upstream.Upstream();
        const sent = () => {
          const all = [];
          for (let x = up.take(); x; x = up.take()) all.push(x.message ?? x.pcm);
          return all;
        };
        for (let n = 0; n < 6; n += 1) up.put(n, n);
        up.control('mark', 'here');
        const first = sent();
        up.replied = 3;
        for (let n = 6; n < 8; n += 1) up.put(n, n);
        const went = up.resumed(2, 3);
        const again = sent();
        up.marked('here');
        const lost = up.resumed(9, 9);
        return { first, went, again, lost };
    """
    assert run(script) == {
        "first": [0, 1, 2, 3, 4, 5, "mark"],
        "went": True,
        "again": [2, 3, 4, 5, "mark", 6, 7],
        "lost": False,
    }


def test_no_more_waits_than_the_server_takes_and_an_answer_is_worth(run: Any) -> None:
    """Forty frames go out unanswered; of what a lost connection held up the newest two seconds stay."""
    script = """
        const up = new upstream.Upstream();
        for (let n = 0; n < 45; n += 1) up.put(n, n);
        let sent = 0;
        while (up.take()) sent += 1;
        for (let n = 45; n < 200; n += 1) up.put(n, n);
        up.resumed(25, 25);
        const again = [];
        for (let x = up.take(); x; x = up.take()) {
          again.push([x.number, x.pcm]);
          up.replied = x.number + 1;
        }
        return { sent, again, dropped: up.droppedFrames };
    """
    told = run(script)
    assert told["sent"] == 40
    numbers, sounds = zip(*told["again"], strict=True)
    assert list(numbers) == list(range(25, 25 + len(numbers)))  # no number is missing
    assert sounds[:15] == tuple(range(25, 40))  # what the server may have heard keeps its place
    assert sounds[15:] == tuple(range(150, 200))
    assert told["dropped"] == 200 - 40 - 50


def test_a_response_is_from_the_last_word_to_the_first_sound(run: Any) -> None:
    script = """
        const one = new latency.LatencyMeter(), other = new latency.LatencyMeter();
        one.userStarted();
        const told = [one.userStopped(50, 2000), one.replyStarted(70, 2900), one.replyStarted(90, 3700)];
        other.userStarted();  // the end of speech is told after the reply began
        told.push(other.replyStarted(60, 2500), other.userStopped(50, 2000));
        other.userStarted();  // and a reply that was on before says nothing of this turn
        told.push(other.replyStarted(70, 3000), other.userStopped(80, 3200));
        return told;
    """
    assert run(script) == [None, 900, None, None, 500, None, None]


@pytest.mark.parametrize("code", ["insecure", "refused", "missing", "busy", "gone", "unreadable"])
def test_faults_of_the_sound_are_told_in_words(run: Any, code: str) -> None:
    said = run("return words.ofSound(given);", code)
    assert said["title"]
    assert said["text"].endswith(".")


def test_every_ending_of_the_protocol_has_words(run: Any) -> None:
    full = run("return words.ofEnding({reason: 'no_seat', message: 'x', retryS: 4.2});")
    assert full["title"] == "All seats are taken"
    assert "5 seconds" in full["text"]
    assert run("return words.ofEnding({reason: 'done'});") is None
    assert "too fast" in run("return words.ofEnding({reason: 'too_fast', message: 'too fast'});")["text"]
