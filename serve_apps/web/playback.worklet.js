// The loudspeaker's end: frames of the wire's rate come in, the sound device gets its own rate without a gap.

import { JitterBuffer } from "./jitter.js";
import { Resampler } from "./resampler.js";

const PEAKS_PER_S = 100; // what the waveform draws
const REPORTS_PER_S = 20;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = null;
    this.port.onmessage = ({ data }) => this.#obey(data);
  }

  process(_, [output]) {
    if (!this.buffer) return true;
    this.buffer.pull(output[0], currentTime);
    for (let channel = 1; channel < output.length; channel += 1) output[channel].set(output[0]);
    this.#measure(output[0]);
    return true;
  }

  #obey(order) {
    if (order.type === "start") {
      this.resampler = new Resampler(order.rateHz, sampleRate);
      this.buffer = new JitterBuffer(sampleRate, order.frameS);
      [this.peaks, this.peak, this.counted, this.unreported] = [[], 0, 0, 0];
    } else if (order.type === "frame" && this.buffer) {
      const samples = this.resampler.push(Float32Array.from(order.pcm, (sample) => sample / 32768));
      this.buffer.push(order.frame, samples, order.audible, currentTime);
    } else if (order.type === "flush" && this.buffer) {
      const dropped = this.buffer.flush(order.frame);
      this.#report({ flushedMs: (dropped / sampleRate) * 1000 });
    } else if (order.type === "restart" && this.buffer) {
      this.buffer.restart();
    } else if (order.type === "stop") {
      this.buffer = null;
    }
  }

  #measure(sound) {
    for (const sample of sound) {
      this.peak = Math.max(this.peak, Math.abs(sample));
      this.counted += 1;
      if (this.counted >= sampleRate / PEAKS_PER_S) {
        this.peaks.push(this.peak);
        [this.peak, this.counted] = [0, 0];
      }
    }
    this.unreported += sound.length;
    if (this.unreported >= sampleRate / REPORTS_PER_S) this.#report({});
  }

  #report(extra) {
    const { playedFrame, queuedS, targetS, underruns, skippedS, flushes } = this.buffer;
    this.port.postMessage({
      playedFrame,
      queuedMs: queuedS * 1000,
      targetMs: targetS * 1000,
      underruns,
      skippedMs: skippedS * 1000,
      flushes,
      peaks: this.peaks,
      ...extra,
    });
    [this.peaks, this.unreported] = [[], 0];
  }
}

registerProcessor("playback", Playback);
