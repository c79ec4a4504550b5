// How long the user waits. Instants are milliseconds of performance.now().

const RECENT = 50; // frames: two seconds

/** Means of reactions, and the last response. */
export class LatencyMeter {
  constructor() {
    this.reactions = [];
    this.forgetTurn();
  }

  /** A reply came so long after the sound it could first reflect. */
  reacted(ms) {
    this.reactions.push(ms);
    if (this.reactions.length > RECENT) this.reactions.shift();
  }

  /** Of the last two seconds; null before there is any. */
  get reactionMs() {
    const { reactions } = this;
    return reactions.length ? reactions.reduce((sum, ms) => sum + ms, 0) / reactions.length : null;
  }

  userStarted() {
    this.forgetTurn();
  }

  /** The user's last word ended with the frame before `frame`, which was full at `fullMs`. Gives a response or null. */
  userStopped(frame, fullMs) {
    this.stopped = { frame, fullMs };
    return this.#response();
  }

  /** The reply became audible with `frame`, which is heard at `heardMs`. Gives a response or null. */
  replyStarted(frame, heardMs) {
    this.began = { frame, heardMs };
    return this.#response();
  }

  forgetTurn() {
    this.stopped = null;
    this.began = null;
  }

  // The end of speech is told half a second after it: the reply may have begun before.
  #response() {
    if (!this.stopped || !this.began || this.began.frame < this.stopped.frame) return null;
    const ms = this.began.heardMs - this.stopped.fullMs;
    this.forgetTurn();
    return ms;
  }
}
