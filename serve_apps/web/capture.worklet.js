// The microphone's (or a file's) end: whatever rate the sound device has, frames of the wire's rate go out.

import { Framer } from "./framing.js";
import { Resampler } from "./resampler.js";

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.framer = null;
    this.port.onmessage = ({ data }) => this.#obey(data);
  }

  process([input]) {
    if (this.framer) {
      // No input is connected, or it is muted: the session hears silence, and time goes on.
      const sound = mono(input);
      this.#send(this.framer.push(this.resampler.push(sound)));
    }
    return true;
  }

  #obey(order) {
    if (order.type === "start") {
      this.resampler = new Resampler(sampleRate, order.rateHz);
      this.framer = new Framer(order.frameSamples);
    } else if (order.type === "correct" && this.framer) {
      this.#send(this.framer.correct(order.samples));
    } else if (order.type === "stop") {
      this.framer = null;
    }
  }

  #send(frames) {
    for (const frame of frames) this.port.postMessage(frame, [frame.buffer]);
  }
}

function mono(input) {
  if (!input.length) return new Float32Array(128);
  if (input.length === 1) return input[0];
  return input[0].map((sample, index) => (sample + input[1][index]) / 2);
}

registerProcessor("capture", Capture);
