// A conversation with the server: sound up, the reply and its events down, over as many connections as it
// takes. A lost one is resumed by itself. platform/paluku/client/session.py in JavaScript; no sound devices
// and no page in here.

import { Alignment } from "./framing.js";
import { Upstream } from "./upstream.js";
import * as wire from "./wire.js";

const CONNECT_MS = 10_000;
const READY_MS = 20_000; // seating takes a few seconds at most
const SILENCE_MS = 5_000; // sound without an answer for so long: the socket is dead, whatever it says
const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 2_000;
const PLAYED_EVERY_FRAMES = 5;
const DONE = 1000;
const LEFT_OPEN = 3001; // a close code that is no farewell: the session waits for us
// How proxies and servers close under a session that lives on; 1005 and 1006: without a close frame.
const RESUMABLE_CLOSES = [1001, 1005, 1006, 1011, 1012, 1013];
const RESUMABLE_ERRORS = ["restarting"];
const PASSING_REFUSALS = ["restarting", "stage_lost", "no_seat", "too_many_sessions", "too_many_new_sessions"];
const PING = "ping"; // a mark before any sound: its echo measures the way there and back

/**
 * One session. `tell(event)` gets what the server says (wire.decode) and these: state (connecting, talking,
 * resuming, ended), correct (the microphone's frames: so many samples later), reaction (ms).
 * ended has `reason`: done, left, unreachable, lost, protocol or the code of the server's Error.
 */
export class Conversation {
  constructor(url, asked, tell) {
    this.url = url;
    this.asked = asked; // Hello's keys, without resume
    this.tell = tell;
    this.upstream = new Upstream();
    this.ready = null;
    this.nextReply = 0;
    this.state = "new";
    this.counters = { framesSent: 0, framesReceived: 0, lostFrames: 0, resumes: 0, connections: 0, bytesSent: 0 };
  }

  // What the page does.

  start() {
    this.#dial();
  }

  /** A frame of the microphone's was full just now. */
  hear(pcm) {
    if (!this.ready || this.state === "ended") return;
    const nowMs = performance.now();
    this.#align(nowMs);
    this.upstream.put(pcm, nowMs);
    this.#flush();
  }

  adjust(fields) {
    Object.assign(this.asked, fields);
    this.#say(wire.adjust(fields));
  }

  interrupt() {
    this.#say(wire.interrupt());
  }

  forget() {
    this.#say(wire.forget());
  }

  /** `marked` comes with this label once all sound before it is answered. */
  mark(label) {
    this.#say(wire.mark(label), label);
  }

  /** Reply frames up to and without this one were played. */
  played(frame) {
    const said = Math.min(frame, this.nextReply);
    if (this.state !== "talking" || said < this.lastPlayed + PLAYED_EVERY_FRAMES) return;
    this.lastPlayed = said;
    this.#send(wire.played(said));
  }

  /** Turn taking and capabilities change with the connection; the session goes on over another. */
  reconnect(fields) {
    Object.assign(this.asked, fields);
    if (this.state === "talking") this.#again();
    else this.isStale = this.wasOpen && !this.isReady;
  }

  /** Try again at once: the network is back. */
  retryNow() {
    if (this.state === "resuming" && this.pause) this.#dial();
  }

  /** Leave: the seat is free at once. */
  leave() {
    if (this.state === "ended") return;
    this.#end({ reason: "left" });
  }

  // The connection.

  #dial() {
    clearTimeout(this.pause);
    this.pause = null;
    if (this.state === "new") this.#become("connecting");
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.wasOpen = false;
    this.isReady = false;
    this.isStale = false; // Hello has said what is not asked for any more
    this.refusal = null;
    this.counters.connections += 1;
    socket.onopen = () => {
      this.wasOpen = true;
      this.#watch(READY_MS);
      this.#send(wire.hello(this.#hello()));
    };
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code }) => this.#closed(code);
    this.#watch(CONNECT_MS);
  }

  #hello() {
    const resume = this.ready && { token: this.ready.resume_token, next_reply: this.nextReply };
    return { ...this.asked, capabilities: wire.CAPABILITIES, resume };
  }

  #received(data) {
    let message;
    try {
      message = wire.decode(data);
    } catch (error) {
      if (!(error instanceof wire.WireError)) throw error;
      this.#end({ reason: "protocol", message: error.message });
      return;
    }
    this.#watch(SILENCE_MS);
    if (message.type === "error") this.refusal = message;
    else if (message.type === "ready") this.#readied(message);
    else this.#heard(message);
  }

  #readied(ready) {
    if (ready.version !== wire.VERSION) {
      this.#end({ reason: "unsupported_version" });
      return;
    }
    const isResumed = this.ready !== null;
    if (isResumed && !this.upstream.resumed(ready.next_frame, ready.next_reply)) {
      this.#end({ reason: "lost" });
      return;
    }
    this.ready = ready;
    this.isReady = true;
    this.readyMs = performance.now();
    this.alignment = null;
    this.roundTripMs = null;
    this.isInPhase = !ready.capabilities.includes("align");
    this.seq = 0;
    this.lastPlayed = -PLAYED_EVERY_FRAMES;
    this.counters.resumes += isResumed;
    this.#send(wire.mark(PING));
    this.tell({ ...ready, isResumed });
    this.#become("talking");
    if (this.isStale) this.#again();
    else this.#flush();
  }

  #heard(message) {
    if (message.type === "audio") this.#replied(message);
    if (message.type === "align" && this.alignment) {
      this.alignment.shift(message.shiftMs);
      this.#correct(message.shiftMs);
    }
    if (message.type === "marked") {
      if (message.label === PING) {
        this.roundTripMs = performance.now() - this.readyMs;
        return;
      }
      this.upstream.marked(message.label);
    }
    this.tell(message);
  }

  #replied({ seq }) {
    this.counters.framesReceived += 1;
    this.counters.lostFrames += seq - this.nextReply;
    this.nextReply = seq + 1;
    this.upstream.replied = seq + 1;
    const first = this.upstream.frame(seq - this.ready.acoustic_delay_frames);
    if (first) {
      // An instant of the user's is, on average, half a frame older than the moment its frame was full.
      this.tell({ type: "reaction", ms: performance.now() - first.fullMs + this.ready.frame_ms / 2 });
    }
    this.#flush();
  }

  #closed(code) {
    clearTimeout(this.watch);
    const refusal = this.refusal;
    if (refusal) {
      const passes = this.isReady ? RESUMABLE_ERRORS : PASSING_REFUSALS;
      if (this.ready && passes.includes(refusal.code)) this.#lost();
      else this.#end({ reason: refusal.code, message: refusal.message, retryS: refusal.retry_s });
    } else if (this.ready && RESUMABLE_CLOSES.includes(code)) {
      this.#lost();
    } else if (!this.ready) {
      this.#end({ reason: this.wasOpen ? "lost" : "unreachable" });
    } else {
      this.#end({ reason: code === DONE ? "done" : "lost" });
    }
  }

  /** The connection is gone, and the session waits: another one, for as long as the server's grace lasts. */
  #lost() {
    clearTimeout(this.watch);
    if (this.state !== "resuming") {
      this.lostMs = performance.now();
      this.pauseMs = FIRST_PAUSE_MS;
      this.#become("resuming");
    }
    if (performance.now() - this.lostMs > this.ready.grace_s * 1000) {
      this.#end({ reason: "lost" });
      return;
    }
    // Not all at once: a server that restarts is called by everybody.
    const pauseMs = this.pauseMs * (0.75 + Math.random() / 2);
    this.pauseMs = Math.min(2 * this.pauseMs, MAX_PAUSE_MS);
    this.pause = setTimeout(() => this.#dial(), pauseMs);
  }

  #again() {
    this.#drop(LEFT_OPEN);
    this.#lost();
  }

  #drop(code) {
    clearTimeout(this.watch);
    const { socket } = this;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // Before it is open there is nothing to say goodbye to.
    socket.close(code);
  }

  #end(how) {
    clearTimeout(this.pause);
    if (this.socket) this.#drop(DONE);
    this.#become("ended", how);
  }

  #become(state, extra = {}) {
    if (state === this.state) return;
    this.state = state;
    this.tell({ type: "state", state, ...extra });
  }

  /** If nothing is heard for so long although something should be, the connection counts as lost. */
  #watch(ms) {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => {
      if (this.isReady && !this.upstream.isWaiting) {
        this.#watch(ms);
        return;
      }
      this.#drop(LEFT_OPEN);
      this.#closed(1006);
    }, ms);
  }

  // What goes out.

  #say(bytes, label = null) {
    if (this.state === "ended") return;
    this.upstream.control(bytes, label);
    this.#flush();
  }

  #flush() {
    if (this.state !== "talking") return;
    for (let item = this.upstream.take(); item; item = this.upstream.take()) {
      if (item.message) {
        this.#send(item.message);
      } else {
        this.#send(wire.audio(this.seq, item.pcm));
        this.seq += 1;
        this.counters.framesSent += 1;
      }
    }
  }

  #send(bytes) {
    if (this.socket.readyState !== WebSocket.OPEN) return; // its close is about to be told
    this.counters.bytesSent += bytes.length;
    this.socket.send(bytes);
  }

  /** Once a connection: a frame was full just now, and the next are to be full when the server likes it. */
  #align(nowMs) {
    if (this.isInPhase || this.roundTripMs === null) return;
    this.alignment = new Alignment(this.ready, this.readyMs, this.roundTripMs);
    this.isInPhase = true;
    this.#correct(this.alignment.nearestMs(nowMs));
  }

  #correct(ms) {
    this.tell({ type: "correct", samples: Math.round((ms * this.ready.sample_rate_hz) / 1000) });
  }
}
