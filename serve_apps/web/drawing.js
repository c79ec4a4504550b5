// Two small drawings on canvas, in the page's own colours: the waveform of both sides, and latency.

const PEAKS_PER_S = 100;
const SHOWN_S = 6;
const BAR_PX = 3;
const GAP_PX = 2;
const FLOOR = 0.02; // silence is a dotted line

/** Both sides' sound of the last seconds: the user above the line, the reply below. */
export class Waveform {
  constructor(canvas) {
    this.canvas = canvas;
    this.user = [];
    this.reply = [];
  }

  /** A frame of the user's, Int16Array. */
  hear(pcm) {
    const size = Math.round(pcm.length / 4); // 40 ms are four peaks
    for (let start = 0; start < pcm.length; start += size) {
      let peak = 0;
      for (const sample of pcm.subarray(start, start + size)) peak = Math.max(peak, Math.abs(sample));
      push(this.user, peak / 32768);
    }
  }

  /** Peaks of what the loudspeaker played, 0 to 1. */
  play(peaks) {
    for (const peak of peaks) push(this.reply, peak);
  }

  draw() {
    const { context, width, height } = prepared(this.canvas);
    const style = getComputedStyle(this.canvas);
    const bars = Math.floor(width / (BAR_PX + GAP_PX));
    const half = height / 2;
    for (const [side, name] of [["user", "--you"], ["reply", "--accent"]]) {
      context.fillStyle = style.getPropertyValue(name);
      const levels = barsOf(this[side], bars);
      for (let bar = 0; bar < bars; bar += 1) {
        const length = Math.max(1, Math.sqrt(Math.max(FLOOR ** 2, levels[bar])) * (half - 6));
        const top = side === "user" ? half - 1 - length : half + 1;
        context.beginPath();
        context.roundRect(bar * (BAR_PX + GAP_PX), top, BAR_PX, length, BAR_PX / 2);
        context.fill();
      }
    }
  }
}

const CHART_S = 60;
const LEFT_PX = 34;

/** Reaction as a line, responses as points, over the last minute. */
export class LatencyChart {
  constructor(canvas) {
    this.canvas = canvas;
    this.reactions = []; // { s, ms }
    this.responses = [];
  }

  add(kind, ms) {
    const series = this[kind];
    series.push({ s: performance.now() / 1000, ms });
    while (series.length && series[0].s < performance.now() / 1000 - CHART_S) series.shift();
  }

  draw() {
    const { context, width, height } = prepared(this.canvas);
    const style = getComputedStyle(this.canvas);
    const nowS = performance.now() / 1000;
    const highest = Math.max(150, ...[...this.reactions, ...this.responses].map(({ ms }) => ms));
    const step = [50, 100, 250, 500, 1000, 2500, 5000, 10_000].find((ms) => highest / ms <= 4) ?? 30_000;
    const top = Math.ceil(highest / step) * step;
    const x = ({ s }) => width - 4 - ((nowS - s) / CHART_S) * (width - LEFT_PX - 4);
    const y = (ms) => height - 8 - (ms / top) * (height - 18);
    context.font = `11px ${style.fontFamily}`;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (let ms = 0; ms <= top; ms += step) {
      context.fillStyle = style.getPropertyValue("--line");
      context.fillRect(LEFT_PX, y(ms), width - LEFT_PX, 1);
      context.fillStyle = style.getPropertyValue("--quiet");
      context.fillText(String(ms), LEFT_PX - 6, y(ms));
    }
    context.strokeStyle = style.getPropertyValue("--accent");
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    for (const point of this.reactions) context.lineTo(Math.max(LEFT_PX, x(point)), y(point.ms));
    context.stroke();
    context.fillStyle = style.getPropertyValue("--you");
    for (const point of this.responses) {
      context.beginPath();
      context.arc(Math.max(LEFT_PX, x(point)), y(point.ms), 4, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

function push(peaks, peak) {
  peaks.push(peak);
  if (peaks.length > SHOWN_S * PEAKS_PER_S) peaks.shift();
}

/** The loudest of each stretch, newest at the right. */
function barsOf(peaks, bars) {
  const perBar = (SHOWN_S * PEAKS_PER_S) / bars;
  const missing = SHOWN_S * PEAKS_PER_S - peaks.length;
  return Array.from({ length: bars }, (_, bar) => {
    const from = Math.max(0, Math.floor(bar * perBar - missing));
    const to = Math.max(0, Math.floor((bar + 1) * perBar - missing));
    return Math.max(0, ...peaks.slice(from, to));
  });
}

/** An empty canvas with as many dots as the screen has. */
function prepared(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const ratio = globalThis.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
