// Rate conversion of a stream, sample for sample: the polyphase FIR filter of
// platform/paluku/protocol/resampling.py (Crochiere and Rabiner 1983, "Multirate Digital Signal Processing",
// ch. 4), with the same taps. It delays sound by 1.5 ms between 16 and 48 kHz.

// Zero crossings of the sinc on each side; with the window: flat to 0.83 of the slower Nyquist frequency.
const CROSSINGS = 24;
const ROLLOFF = 0.92;
const KAISER_BETA = 6.8; // 70 dB of stopband attenuation (Kaiser 1974)
const TAP_STEP = 2 ** -20;

/** One channel from one rate to another. State: the last few samples, and a position. */
export class Resampler {
  constructor(fromHz, toHz) {
    const common = gcd(fromHz, toHz);
    this.up = toHz / common;
    this.down = fromHz / common;
    this.phases = phases(this.up, this.down); // `up` arrays of taps, oldest sample first
    this.taps = this.phases[0].length;
    this.recent = new Float64Array(this.taps - 1); // the samples before the next one
    this.position = 0; // of the next output, in 1 / up samples after the next input
  }

  /** Samples in, Float32Array out: after n samples in all, ceil(n * up / down) have come out in all. */
  push(samples) {
    if (this.up === this.down) return Float32Array.from(samples);
    const sound = new Float64Array(this.recent.length + samples.length);
    sound.set(this.recent);
    sound.set(samples, this.recent.length);
    const count = Math.max(0, Math.ceil((samples.length * this.up - this.position) / this.down));
    const out = new Float32Array(count);
    for (let index = 0; index < count; index += 1) {
      const at = this.position + index * this.down;
      out[index] = dot(sound, Math.floor(at / this.up), this.phases[at % this.up]);
    }
    this.position += count * this.down - samples.length * this.up;
    this.recent = sound.slice(sound.length - this.recent.length);
    return out;
  }
}

function dot(sound, start, taps) {
  let sum = 0;
  for (let tap = 0; tap < taps.length; tap += 1) sum += sound[start + tap] * taps[tap];
  return sum;
}

function phases(up, down) {
  const slower = Math.max(up, down); // in samples of the common rate, one of the slower rate's
  const half = CROSSINGS * slower;
  const taps = Math.ceil((2 * half + 1) / up);
  return Array.from({ length: up }, (_, phase) => {
    const own = new Float64Array(taps);
    for (let tap = 0; tap < taps; tap += 1) {
      const time = tap * up + phase - half;
      if (time <= half) own[taps - 1 - tap] = sinc((ROLLOFF * time) / slower) * kaiser(time / half);
    }
    const sum = own.reduce((total, value) => total + value, 0);
    return own.map((value) => Math.round(value / sum / TAP_STEP) * TAP_STEP);
  });
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x) {
  return bessel(KAISER_BETA * Math.sqrt(Math.max(0, 1 - x * x))) / bessel(KAISER_BETA);
}

/** The modified Bessel function of the first kind and order 0, by its series. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > sum * 1e-17; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function gcd(a, b) {
  return b === 0 ? a : gcd(b, a % b);
}
