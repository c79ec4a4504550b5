// The sound devices: microphone or file in, loudspeaker out, each through an AudioWorklet.

/** A device that cannot be used; `code` is one of insecure, refused, missing, busy, unreadable, unreachable. */
export class SoundError extends Error {
  constructor(code, message = code) {
    super(message);
    this.code = code;
  }
}

const MICROPHONE = {
  echoCancellation: true, // else the reply would interrupt itself
  noiseSuppression: true,
  autoGainControl: true,
  channelCount: 1,
};
const CODES = {
  NotAllowedError: "refused",
  SecurityError: "refused",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};

/** `onFrame(Int16Array)`: a frame of the user's. `onReport`: how playing goes (playback.worklet.js). */
export class Sound {
  constructor(onFrame, onReport, onGone) {
    this.onFrame = onFrame;
    this.onReport = onReport;
    this.onGone = onGone;
    this.stream = null;
    this.isAsking = false; // for the microphone
    this.file = null;
  }

  /** Must be called from a click: browsers play nothing otherwise. Throws SoundError. */
  async open() {
    if (!globalThis.isSecureContext || !globalThis.AudioWorkletNode) throw new SoundError("insecure");
    this.context = new AudioContext({ latencyHint: "interactive" });
    const modules = ["capture", "playback"].map((name) =>
      this.context.audioWorklet.addModule(new URL(`${name}.worklet.js`, import.meta.url)),
    );
    try {
      await Promise.all([...modules, this.context.resume()]);
    } catch (error) {
      throw new SoundError("unreachable", error.message); // the server did not give the modules
    }
    this.capture = new AudioWorkletNode(this.context, "capture", { outputChannelCount: [1] });
    this.playback = new AudioWorkletNode(this.context, "playback", {
      numberOfInputs: 0,
      outputChannelCount: [1],
    });
    this.capture.connect(this.context.destination); // silent; but a node that leads nowhere is not run
    this.playback.connect(this.context.destination);
    this.capture.port.onmessage = ({ data }) => this.onFrame(data);
    this.playback.port.onmessage = ({ data }) => this.onReport(data);
  }

  /** What the loudspeaker adds, in ms: known to some browsers. */
  get outputMs() {
    return ((this.context.outputLatency || 0) + this.context.baseLatency) * 1000;
  }

  /** The session has begun: frames of so many samples are wanted, and come. */
  start(rateHz, frameSamples) {
    this.capture.port.postMessage({ type: "start", rateHz, frameSamples });
    this.playback.port.postMessage({ type: "start", rateHz, frameS: frameSamples / rateHz });
  }

  correct(samples) {
    this.capture.port.postMessage({ type: "correct", samples });
  }

  play(frame, pcm, audible) {
    this.playback.port.postMessage({ type: "frame", frame, pcm, audible });
  }

  /** Nothing of the reply from this frame on is to be heard. */
  flush(frame = 0) {
    this.playback.port.postMessage({ type: "flush", frame });
  }

  /** Frames come over another connection now. */
  restart() {
    this.playback.port.postMessage({ type: "restart" });
  }

  get hasMicrophone() {
    return this.stream !== null;
  }

  /** Ask for the microphone and listen to it. Throws SoundError. */
  async listen() {
    if (this.isAsking || this.stream) return;
    this.isAsking = true;
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: MICROPHONE });
    } catch (error) {
      throw new SoundError(CODES[error.name] ?? "busy", error.message);
    } finally {
      this.isAsking = false;
    }
    if (this.context.state === "closed") {
      this.mute(); // the user answered when nobody wanted to know any more
      return;
    }
    this.microphone = this.context.createMediaStreamSource(this.stream);
    this.stream.getAudioTracks()[0].onended = () => {
      this.mute();
      this.onGone();
    };
    if (!this.file) this.microphone.connect(this.capture);
  }

  /** The session hears silence, and the browser's microphone light goes out. */
  mute() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.microphone?.disconnect();
    this.stream = null;
    this.microphone = null;
  }

  /** Speak a recording instead of the microphone; resolves when it is over. Throws SoundError. */
  async say(bytes) {
    let sound;
    try {
      sound = await this.context.decodeAudioData(bytes);
    } catch {
      throw new SoundError("unreadable");
    }
    this.microphone?.disconnect();
    this.file?.stop();
    const file = new AudioBufferSourceNode(this.context, { buffer: sound });
    this.file = file;
    file.connect(this.capture);
    file.start();
    await new Promise((resolve) => {
      file.onended = resolve;
    });
    file.disconnect();
    if (this.file !== file) return; // another one has begun
    this.file = null;
    this.microphone?.connect(this.capture);
  }

  async close() {
    this.mute();
    if (this.context && this.context.state !== "closed") await this.context.close();
  }
}
