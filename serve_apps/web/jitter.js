// What waits to be played. Frames come as the network pleases and are played without a gap: a frame waits
// as long as the lateness of nearly all the others demands, and no longer. The wait is changed where
// nothing is to be heard; an interruption empties the queue at once.

const FIRST_TARGET_S = 0.02;
const MIN_TARGET_S = 0.012; // a main thread that draws is a few milliseconds late now and then
const MAX_TARGET_S = 0.4;
const WINDOW_FRAMES = 100; // what is judged: four seconds
const LEAST_FRAMES = 25; // one second between two changes
const LATE_SHARE = 0.03; // of the frames may be later than the wait allows for
const GUARD_S = 0.006; // what the latest frames of a window should still wait
const SLACK_S = 0.02; // more than that is taken back in the next silence
const EXCESS_S = 0.3; // and so much within speech
const FADE_S = 0.005; // a cut is no click
const INAUDIBLE = 0.003; // -50 dBFS: nobody misses such a frame

/** Plays frames of one rate. Times are seconds of one clock; samples are Float32Array from -1 to 1. */
export class JitterBuffer {
  constructor(rateHz, frameS) {
    this.rateHz = rateHz;
    this.frameS = frameS;
    this.queue = []; // { frame, samples, audible, at, cameS }
    this.queued = 0; // samples
    this.isHolding = true;
    this.holdS = 0; // so much longer
    this.targetS = FIRST_TARGET_S;
    this.playedFrame = 0; // frames up to and without this one were played
    this.underruns = 0;
    this.skippedS = 0;
    this.flushes = 0;
    this.wasAudible = false;
    this.last = 0; // the last sample that was played, from which a cut fades
    this.fade = new Float32Array(0);
    this.restart();
  }

  get queuedS() {
    return this.queued / this.rateHz;
  }

  /** The connection is another one: what was learnt of the old one's lateness is void. */
  restart() {
    this.transits = []; // when each came, less when it would have come from a perfect network
    this.waits = []; // from coming to being played
  }

  /** A frame came at `nowS`. */
  push(frame, samples, audible, nowS) {
    this.#observe(frame, nowS);
    if (!this.queue.length && this.isHolding) this.holdS = this.targetS;
    this.queue.push({ frame, samples, audible: audible && loudest(samples) > INAUDIBLE, at: 0, cameS: nowS });
    this.queued += samples.length;
  }

  /** Fill `out` with what is to be heard from `nowS` on. */
  pull(out, nowS) {
    let at = this.#held(out.length);
    out.fill(0, 0, at);
    while (at < out.length && this.queue.length) {
      if (this.queue[0].at === 0) this.#begin(nowS + at / this.rateHz);
      if (this.isHolding) break;
      at += this.#play(out, at);
    }
    if (at < out.length) this.#starve(out, at);
    this.#applyFade(out);
    this.last = out[out.length - 1];
  }

  /** Nothing from this frame on is to be heard; what waits is gone at once. Gives the samples dropped. */
  flush(fromFrame = 0) {
    const kept = this.queue.filter((entry) => entry.frame < fromFrame);
    const left = kept.reduce((sum, entry) => sum + entry.samples.length - entry.at, 0);
    const dropped = this.queued - left;
    if (this.queue.length && !kept.includes(this.queue[0])) this.#cut();
    [this.queue, this.queued, this.wasAudible] = [kept, left, false];
    this.isHolding ||= !kept.length;
    this.flushes += 1;
    return dropped;
  }

  #observe(frame, nowS) {
    this.transits.push(nowS - frame * this.frameS);
    if (this.transits.length > WINDOW_FRAMES) this.transits.shift();
    if (this.transits.length < LEAST_FRAMES) return;
    const sorted = Float64Array.from(this.transits).sort();
    const late = sorted[Math.ceil((1 - LATE_SHARE) * (sorted.length - 1))] - sorted[0];
    this.targetS = Math.min(MAX_TARGET_S, Math.max(MIN_TARGET_S, late + GUARD_S));
  }

  /** How many samples of this block are silence because what came has to wait. */
  #held(length) {
    if (!this.isHolding || !this.queue.length) return 0;
    const samples = Math.min(length, Math.ceil(this.holdS * this.rateHz));
    this.holdS -= samples / this.rateHz;
    this.isHolding = samples === length;
    return samples;
  }

  /** A frame's turn has come: was its wait too long, or too short? */
  #begin(nowS) {
    const first = this.queue[0];
    this.waits.push(nowS - first.cameS);
    if (this.waits.length > WINDOW_FRAMES) this.waits.shift();
    if (this.waits.length < LEAST_FRAMES) return;
    const slackS = Math.min(...this.waits) - GUARD_S;
    if (slackS > EXCESS_S || (slackS > SLACK_S && !first.audible)) {
      this.#skip(slackS);
    } else if (slackS < -GUARD_S / 2 && !first.audible) {
      [this.isHolding, this.holdS, this.waits] = [true, -slackS, []];
    }
  }

  #skip(seconds) {
    let samples = Math.round(seconds * this.rateHz);
    if (this.queue[0].audible) this.#cut();
    while (samples > 0 && this.queue.length > 1) {
      const first = this.queue[0];
      const part = Math.min(samples, first.samples.length - first.at);
      first.at += part;
      this.queued -= part;
      samples -= part;
      this.skippedS += part / this.rateHz;
      if (first.at === first.samples.length) this.#finished();
    }
    this.waits = [];
  }

  #play(out, at) {
    const first = this.queue[0];
    const part = first.samples.subarray(first.at, first.at + out.length - at);
    out.set(part, at);
    first.at += part.length;
    this.queued -= part.length;
    if (first.at === first.samples.length) this.#finished();
    return part.length;
  }

  #finished() {
    const { frame, audible } = this.queue.shift();
    this.playedFrame = Math.max(this.playedFrame, frame + 1);
    this.wasAudible = audible;
  }

  #starve(out, at) {
    if (this.wasAudible) {
      this.underruns += 1;
      this.wasAudible = false;
      this.last = at ? out[at - 1] : this.last;
    }
    this.isHolding = true;
    out.fill(0, at);
  }

  /** From the last sample to nothing in FADE_S, over whatever comes. */
  #cut() {
    const samples = Math.round(FADE_S * this.rateHz);
    this.fade = Float32Array.from({ length: samples }, (_, n) => this.last * (1 - (n + 1) / samples));
  }

  #applyFade(out) {
    const length = Math.min(out.length, this.fade.length);
    for (let index = 0; index < length; index += 1) out[index] += this.fade[index];
    this.fade = this.fade.subarray(length);
  }
}

function loudest(samples) {
  let peak = 0;
  for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
  return peak;
}
