// What a conversation says, across the connections it lives through: frames of sound and what stands between.
// platform/paluku/client/upstream.py in JavaScript; and sound that nobody could hear in time is let go.

const KEPT_FRAMES = 250; // ten seconds; the server asks for no more than about one
export const WINDOW_FRAMES = 40; // sent and not yet replied to; the server takes two seconds at once
const BACKLOG_FRAMES = 50; // of a microphone without a connection: older sound is not worth an answer

/** An ordered list with a cursor. Frame numbers are the session's, from 0. */
export class Upstream {
  constructor() {
    this.kept = []; // { number, pcm, fullMs }
    this.controls = []; // { frame, message, isRepeated }: each goes out before that frame
    this.unanswered = []; // marks and End that were sent, and nothing came of them yet
    this.cursor = 0; // the next frame to send
    this.sentEnd = 0; // frames before it were sent once, and keep their numbers
    this.end = 0; // the next frame to come in
    this.replied = 0; // the frame after the last that was replied to
    this.droppedFrames = 0;
  }

  /** Whether sound was sent that the server has not answered. */
  get isWaiting() {
    return this.cursor > this.replied;
  }

  /** A frame more, full at `fullMs`. */
  put(pcm, fullMs) {
    if (this.end - Math.max(this.cursor, this.sentEnd) >= BACKLOG_FRAMES) this.#dropUnsent();
    this.kept.push({ number: this.end, pcm, fullMs });
    this.end += 1;
    while (this.kept.length > KEPT_FRAMES && this.kept[0].number < Math.min(this.cursor, this.replied)) {
      this.kept.shift();
    }
  }

  /** Something that belongs behind the sound put in so far; `label` names a mark that is to be echoed. */
  control(message, label = null) {
    this.controls.push({ frame: this.end, message, label });
  }

  /** What goes out next: { pcm, number } or { message }; null when nothing may go out now. */
  take() {
    if (this.controls.length && this.controls[0].frame <= this.cursor) {
      const control = this.controls.shift();
      if (control.label !== null) this.unanswered.push(control);
      return control;
    }
    if (this.cursor >= this.end || this.cursor - this.replied >= WINDOW_FRAMES) return null;
    const sound = this.kept[this.cursor - this.kept[0].number];
    this.cursor += 1;
    this.sentEnd = Math.max(this.sentEnd, this.cursor);
    return sound;
  }

  /** The frame of this number, if it is still kept. */
  frame(number) {
    return this.kept.length ? this.kept[number - this.kept[0].number] : undefined;
  }

  /** The server has echoed a label. */
  marked(label) {
    const index = this.unanswered.findIndex((control) => control.label === label);
    if (index >= 0) this.unanswered.splice(index, 1);
  }

  /** On a new connection the server wants sound from `nextFrame` on; false when that is not kept. */
  resumed(nextFrame, nextReply) {
    const oldest = this.kept.length ? this.kept[0].number : this.end;
    if (nextFrame < oldest || nextFrame > this.end) return false;
    this.controls = [...this.unanswered, ...this.controls].sort((a, b) => a.frame - b.frame);
    this.unanswered = [];
    this.cursor = nextFrame;
    this.replied = nextReply;
    return true;
  }

  #dropUnsent() {
    const first = Math.max(this.cursor, this.sentEnd);
    this.kept.splice(first - this.kept[0].number, 1);
    for (const sound of this.kept) if (sound.number > first) sound.number -= 1;
    for (const control of this.controls) if (control.frame > first) control.frame -= 1;
    this.end -= 1;
    this.droppedFrames += 1;
  }
}
