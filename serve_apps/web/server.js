// What the server says of itself over HTTP: its health, and its seats to whom it lets see them.

const POLL_MS = 5_000;
const PATIENCE_MS = 5_000; // with a server that takes a request and does not answer

/** Addresses are beside this page's own, wherever it is mounted. */
export const address = (path) => new URL(path, document.baseURI);

export function socketAddress() {
  const url = address("ws");
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** /health, or null when nothing answers in time. */
export async function health() {
  try {
    const answer = await fetch(address("health"), { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    return await answer.json();
  } catch {
    return null;
  }
}

/** Asks /stats again and again while the page is looked at. `show(stats, status)`: stats are null when not let see. */
export class StatsPoll {
  constructor(keyOf, show) {
    this.keyOf = keyOf;
    this.show = show;
    document.addEventListener("visibilitychange", () => this.ask());
  }

  /** Now, and every five seconds from now. */
  async ask() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    const key = this.keyOf();
    if (this.refusedKey !== key) await this.#fetch(key);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), POLL_MS);
  }

  async #fetch(key) {
    try {
      const headers = key ? { Authorization: `Bearer ${key}` } : {};
      const answer = await fetch(address("stats"), { headers, cache: "no-store" });
      // A key that is not enough will not be enough in five seconds.
      if (answer.status === 401 || answer.status === 403) this.refusedKey = key;
      this.show(answer.ok ? await answer.json() : null, answer.status);
    } catch {
      this.show(null, 0);
    }
  }
}
