// Who said what. Pieces come a few letters at a time; a screen reader is told whole utterances only.

const PAUSE_MS = 1_500; // after so long without a piece an utterance is whole, and is announced
const NEW_AFTER_MS = 4_000;

export class Transcript {
  constructor(list, announcer, nameOfReply) {
    this.list = list;
    this.announcer = announcer;
    this.nameOfReply = nameOfReply;
    this.last = { user: null, reply: null };
    this.isNewTurn = { user: false, reply: false };
  }

  /** A turn began: what this side says now is another utterance. */
  turn(side) {
    this.isNewTurn[side] = true;
  }

  /** A piece of what one side says. */
  add(side, text) {
    const entry = this.#continues(side) ? this.last[side] : this.#begin(side);
    entry.text += text;
    entry.element.textContent = entry.text;
    entry.atMs = performance.now();
    clearTimeout(entry.pause);
    entry.pause = setTimeout(() => this.#announce(entry), PAUSE_MS);
    this.#scroll();
  }

  /** What the reply was saying was cut off. */
  interrupted() {
    const entry = this.last.reply;
    if (!entry || performance.now() - entry.atMs > NEW_AFTER_MS || entry.isCut) return;
    entry.isCut = true;
    entry.element.after(element("span", "cut", "interrupted"));
    this.isNewTurn.reply = true;
  }

  /** A line of the page's own. */
  note(text) {
    this.list.append(element("p", "note", text));
    this.#scroll();
  }

  #continues(side) {
    const entry = this.last[side];
    if (!entry || this.isNewTurn[side]) return false;
    const silentMs = performance.now() - entry.atMs;
    const other = this.last[side === "user" ? "reply" : "user"];
    const isOvertaken = other && other.beganMs > entry.beganMs;
    return silentMs < (isOvertaken ? PAUSE_MS : NEW_AFTER_MS);
  }

  #begin(side) {
    this.list.querySelector(".empty")?.remove();
    const name = side === "user" ? "You" : this.nameOfReply();
    const box = element("div", `said ${side}`, "");
    const text = element("span", "text", "");
    text.lang = "te";
    box.append(element("span", "who", name), text);
    this.list.append(box);
    const entry = { name, text: "", element: text, beganMs: performance.now(), atMs: 0, pause: null };
    this.last[side] = entry;
    this.isNewTurn[side] = false;
    return entry;
  }

  #announce(entry) {
    if (entry.text.trim()) this.announcer.textContent = `${entry.name}: ${entry.text.trim()}`;
  }

  #scroll() {
    const { list } = this;
    // Whoever has scrolled up to read is left there.
    if (list.scrollHeight - list.scrollTop - list.clientHeight < 160) list.scrollTop = list.scrollHeight;
  }
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
