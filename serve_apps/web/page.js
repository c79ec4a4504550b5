// The page: what is pressed becomes orders to the conversation and the sound, what they tell is shown.

import { nameOfVoice, offer, STYLES, VOICES } from "./choices.js";
import { Conversation } from "./conversation.js";
import { showDetails } from "./details.js";
import { LatencyChart, Waveform } from "./drawing.js";
import { LatencyMeter } from "./latency.js";
import { health, socketAddress, StatsPoll } from "./server.js";
import { Sound, SoundError } from "./sound.js";
import { Transcript } from "./transcript.js";
import { samplesOf, VERSION } from "./wire.js";
import * as words from "./words.js";

const RATES_HZ = [8_000, 16_000, 24_000, 48_000];
const USUAL_RATE_HZ = 16_000;
const KEY = "paluku-key"; // in sessionStorage: gone with the tab
const CHART_EVERY_MS = 1_000;
const STILL_MS = 500; // between two drawings, for who wants less motion
const STOPPED = "stopped"; // the mark behind an interruption
const NOTHING_PLAYED = { peaks: [] };

const at = (id) => document.getElementById(id);
const chosen = { voice: "priya", style: "neutral" };
const transcript = new Transcript(at("transcript"), at("announce"), () => nameOfVoice(chosen.voice));
const wave = new Waveform(at("wave"));
const chart = new LatencyChart(at("chart"));
const seats = new StatsPoll(() => sessionStorage.getItem(KEY), showSeats);
let meter = new LatencyMeter();
let talk = null; // the present Conversation
let sound = null; // and its Sound
let report = NOTHING_PLAYED; // how playing goes
let isHushed = false; // the user stopped the reply; what is still on its way is not heard
let lastAskedFor = "talk"; // what a key was missing for
let opening = null; // the Sound whose devices are being asked for

// What is pressed.

offer(at("voices"), "voice", VOICES, chosen.voice, (voice) => {
  chosen.voice = voice;
  at("wave-reply").textContent = nameOfVoice(voice);
  talk?.adjust({ voice });
});
offer(at("styles"), "style", STYLES, chosen.style, (style) => {
  chosen.style = style;
  talk?.adjust({ style });
});
at("talk").onclick = () => (talk ? talk.leave() : opening ? cancel() : begin({ microphone: true }));
at("stop").onclick = stopReply;
at("mute").onclick = toggleMicrophone;
at("send").onclick = () => at("file").click();
at("file").onchange = ({ target }) => {
  const [file] = target.files;
  target.value = ""; // the same file may be sent again
  if (file) sendFile(file);
};
at("forget").onclick = () => {
  talk?.forget();
  transcript.note("The model has forgotten what was said before.");
};
at("turns").onchange = ({ target }) => talk?.reconnect({ turn_taking: target.value });
for (const [id, name] of [["temperature", "temperature"], ["top-k", "top_k"]]) {
  at(id).onchange = ({ target }) => {
    if (target.value !== "" && target.reportValidity()) talk?.adjust({ [name]: Number(target.value) });
  };
}
at("key-form").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  at("key").value = "";
  seats.ask();
  begin({ microphone: lastAskedFor === "talk" });
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stopReply();
});
addEventListener("online", () => talk?.retryNow());
addEventListener("pagehide", () => talk?.leave());

/** A session, with the microphone or (for a file) without; false when it could not even be asked for. */
async function begin({ microphone }) {
  if (opening) return false;
  lastAskedFor = microphone ? "talk" : "file";
  hideAlert();
  show("connecting");
  const mine = new Sound(hear, played, () => complain(words.ofSound("gone")));
  sound = opening = mine;
  try {
    await mine.open();
    if (microphone) await mine.listen();
    const card = await health();
    if (opening === mine) connect(card);
    return opening === mine && talk !== null;
  } catch (error) {
    if (opening !== mine) return false; // it was closed in the midst of it
    if (!(error instanceof SoundError)) throw error;
    cancel();
    complain(words.ofSound(error.code) ?? words.ofEnding({ reason: error.code }));
    return false;
  } finally {
    if (opening === mine) opening = null;
  }
}

function cancel() {
  opening.close();
  opening = null;
  show("idle");
}

function connect(card) {
  if (card && card.protocol_version !== VERSION) {
    changed({ state: "ended", reason: "unsupported_version" });
    return;
  }
  meter = new LatencyMeter();
  isHushed = false;
  report = NOTHING_PLAYED;
  talk = new Conversation(socketAddress(), asked(card), tell);
  diagnostics.conversation = talk;
  talk.start();
}

function asked(card) {
  const number = (id) => (at(id).value === "" || !at(id).checkValidity() ? null : Number(at(id).value));
  return {
    encoding: "pcm16",
    // The model's own rate, if the wire has it: what the server need not convert costs no time.
    sample_rate_hz: RATES_HZ.includes(card?.sample_rate_hz) ? card.sample_rate_hz : USUAL_RATE_HZ,
    ...chosen,
    seed: number("seed") ?? 0,
    temperature: number("temperature"),
    top_k: number("top-k"),
    turn_taking: at("turns").value,
    key: sessionStorage.getItem(KEY),
  };
}

async function sendFile(file) {
  const bytes = await file.arrayBuffer();
  if (!talk && !(await begin({ microphone: false }))) return;
  if (talk.state !== "talking" && !(await talking())) return;
  const { name } = file;
  transcript.note(`Sending ${name}`);
  const [mine, devices] = [talk, sound];
  try {
    await devices.say(bytes);
  } catch (error) {
    if (!(error instanceof SoundError)) throw error;
    complain(words.ofSound(error.code));
    return;
  }
  diagnostics.filesSent += 1;
  mine.mark(`file ${diagnostics.filesSent}`);
}

/** Resolves once the session is seated (true) or refused (false). */
function talking() {
  return new Promise((resolve) => {
    const mine = talk;
    const look = setInterval(() => {
      if (mine.state === "connecting") return;
      clearInterval(look);
      resolve(mine.state === "talking");
    }, 20);
  });
}

async function toggleMicrophone() {
  if (sound?.hasMicrophone) {
    sound.mute();
  } else {
    try {
      await sound?.listen();
      hideAlert();
    } catch (error) {
      if (!(error instanceof SoundError)) throw error;
      complain(words.ofSound(error.code));
    }
  }
  showMicrophone();
}

function stopReply() {
  if (talk?.state !== "talking") return;
  sound.flush();
  isHushed = true;
  talk.interrupt();
  talk.mark(STOPPED);
}

// What the sound tells.

function hear(pcm) {
  if (!talk || talk.state === "ended") return;
  wave.hear(pcm);
  talk.hear(pcm);
}

function played(news) {
  report = { ...report, ...news };
  wave.play(news.peaks);
  if (news.flushedMs !== undefined) diagnostics.flushedMs.push(news.flushedMs);
  talk?.played(news.playedFrame);
}

// What the conversation tells.

function tell(event) {
  const act = {
    state: () => changed(event),
    ready: () => seated(event),
    correct: () => sound.correct(event.samples),
    audio: () => replied(event),
    interrupted: () => interrupted(event),
    turn: () => turned(event),
    text: () => isHushed || transcript.add("reply", event.text),
    userText: () => transcript.add("user", event.text),
    reaction: () => meter.reacted(event.ms),
    stats: () => (diagnostics.stats = event),
    marked: () => marked(event),
  }[event.type];
  act?.();
}

function seated(ready) {
  if (ready.isResumed) {
    sound.restart();
    transcript.note("The connection was lost and taken up again");
  } else {
    sound.start(ready.sample_rate_hz, ready.frame_samples);
  }
  diagnostics.sessionIds.push(ready.session_id);
  isHushed = false;
  seats.ask();
}

function replied({ seq, bytes, audible }) {
  const pcm = samplesOf(bytes);
  sound.play(seq, isHushed ? new Int16Array(pcm.length) : pcm, audible && !isHushed);
}

function interrupted({ frame }) {
  sound.flush(frame);
  isHushed = false; // what comes from now on was made after the interruption
  diagnostics.interruptions += 1;
  transcript.interrupted();
  meter.forgetTurn();
}

/** A reply that was silent already is not interrupted: the echo alone says that the server knows. */
function marked({ label }) {
  if (label === STOPPED) isHushed = false;
  else transcript.note("The file has been heard");
}

function turned({ who, event, frame }) {
  if (event === "started") transcript.turn(who);
  let response = null;
  if (who === "user" && event === "started") meter.userStarted();
  if (who === "user" && event === "stopped") {
    const last = talk.upstream.frame(frame - 1);
    if (last) response = meter.userStopped(frame, last.fullMs);
  }
  if (who === "reply" && event === "started") {
    response = meter.replyStarted(frame, performance.now() + (report.queuedMs ?? 0) + sound.outputMs);
  }
  if (response === null) return;
  chart.add("responses", response);
  showMs("response", response);
}

function changed({ state, ...how }) {
  show(state === "ended" ? "idle" : state);
  if (state !== "ended") return;
  talk = null;
  sound.close();
  seats.ask();
  explain(how);
}

async function explain(how) {
  if (how.reason === "unreachable" && (await health())) how = { ...how, reason: "blocked" };
  const said = words.ofEnding(how);
  if (!said) return;
  complain(said);
  if (how.reason !== "unauthorized") return;
  sessionStorage.removeItem(KEY);
  at("key-form").hidden = false;
  at("key").focus();
}

// What is shown.

const STATES = {
  idle: ["Not connected", "Talk"],
  connecting: ["Connecting", "Cancel"],
  talking: ["Connected", "End"],
  resuming: ["Connecting again", "End"],
};

function show(state) {
  const [text, button] = STATES[state];
  at("state").dataset.state = state;
  at("state-text").textContent = text;
  at("talk-text").textContent = button;
  at("hint").hidden = state !== "idle";
  for (const id of ["stop", "forget", "mute"]) at(id).disabled = state !== "talking";
  showMicrophone();
}

function showMicrophone() {
  at("mute").textContent = sound?.hasMicrophone || !talk ? "Mute me" : "Unmute me";
}

function complain({ title, text }) {
  at("key-form").hidden = true;
  at("alert-title").textContent = title;
  at("alert-text").textContent = text;
  at("alert").hidden = false;
}

function hideAlert() {
  at("alert").hidden = true;
}

function showMs(id, ms) {
  const number = document.createTextNode(`${Math.round(ms)} `);
  const unit = Object.assign(document.createElement("span"), { className: "unit", textContent: "ms" });
  at(id).replaceChildren(number, unit);
}

function showSeats(stats, status) {
  const texts = { 0: "The server does not answer", 401: "Shown to holders of a key", 403: "Not shown to this page" };
  at("seats-text").textContent = stats
    ? `${stats.seats_used} of ${stats.seats} seats taken`
    : (texts[status] ?? "Not known now");
  at("seats-bar").style.width = stats?.seats ? `${(100 * stats.seats_used) / stats.seats}%` : "0";
  const tick = stats?.tick_p99_ms ? `, tick ${stats.tick_p99_ms.toFixed(0)} ms at p99` : "";
  at("server-text").textContent = stats ? `${stats.sessions} in conversation${tick}` : "";
}

// Once a second the numbers; the waveform as often as the screen, or twice a second for who wants less motion.

setInterval(() => {
  if (talk?.state === "talking" && meter.reactionMs !== null) {
    chart.add("reactions", meter.reactionMs);
    showMs("reaction", meter.reactionMs);
    showDetails(at("details"), talk, report, diagnostics.stats);
  }
  chart.draw();
}, CHART_EVERY_MS);

const stillness = matchMedia("(prefers-reduced-motion: reduce)");
let drawnMs = -Infinity;
function animate(nowMs) {
  if (nowMs - drawnMs >= (stillness.matches ? STILL_MS : 0) && (talk || drawnMs < 0)) {
    wave.draw();
    drawnMs = nowMs;
  }
  requestAnimationFrame(animate);
}
requestAnimationFrame(animate);
for (const change of [matchMedia("(prefers-color-scheme: dark)"), matchMedia("(min-width: 860px)")]) {
  change.addEventListener("change", redraw);
}
addEventListener("resize", redraw);

function redraw() {
  wave.draw();
  chart.draw();
}

/** For whoever looks for a fault, in the browser's console or in a test; docs/page.md names what is in it. */
const diagnostics = {
  conversation: null,
  sessionIds: [],
  flushedMs: [],
  interruptions: 0,
  filesSent: 0,
  get report() {
    return report;
  },
};
globalThis.paluku = diagnostics;

chart.draw();
seats.ask();
