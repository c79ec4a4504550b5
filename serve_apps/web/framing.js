// When the microphone's frames should be full, so that they reach the server shortly before its tick:
// platform/paluku/client/alignment.py in JavaScript.

/** The phase of the frames, in milliseconds of performance.now(). */
export class Alignment {
  constructor(ready, receivedMs, roundTripMs) {
    this.frameMs = ready.frame_ms;
    // Ready took half a round trip to get here, and sound takes half a one to get there.
    this.fullMs = receivedMs + ready.tick_in_ms - ready.lead_ms - roundTripMs;
  }

  shift(shiftMs) {
    this.fullMs += shiftMs;
  }

  /** How much later (or earlier, when negative) the closest good instant is: within half a frame. */
  nearestMs(fullMs) {
    const wait = modulo(this.fullMs - fullMs, this.frameMs);
    return wait <= this.frameMs / 2 ? wait : wait - this.frameMs;
  }
}

/** Cuts sound that comes in real time into frames of PCM16 that are full at the right instants. */
export class Framer {
  constructor(frameSamples) {
    this.frame = new Int16Array(frameSamples);
    this.filled = 0;
    this.toDrop = 0;
  }

  /** The coming frames are full so many samples later (sound is lost); earlier when negative (silence). */
  correct(samples) {
    if (samples >= 0) {
      this.toDrop += samples;
      return [];
    }
    const kept = Math.max(0, this.toDrop + samples);
    const silence = -samples - (this.toDrop - kept);
    this.toDrop = kept;
    return this.#fill(new Float32Array(silence));
  }

  /** Samples from -1 to 1 in, whole frames (Int16Array) out. */
  push(samples) {
    const dropped = Math.min(this.toDrop, samples.length);
    this.toDrop -= dropped;
    return this.#fill(samples.subarray(dropped));
  }

  #fill(samples) {
    const frames = [];
    for (const sample of samples) {
      this.frame[this.filled] = pcm16(sample);
      this.filled += 1;
      if (this.filled === this.frame.length) {
        frames.push(this.frame);
        this.frame = new Int16Array(this.frame.length);
        this.filled = 0;
      }
    }
    return frames;
  }
}

function pcm16(sample) {
  return Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
}

function modulo(a, b) {
  return ((a % b) + b) % b;
}
