// The native protocol, version 2: messages to bytes and back. docs/protocol.md is the prose, and
// platform/paluku/protocol/native.py says the same in Python; a test holds both against each other.

export const VERSION = 2;
export const CAPABILITIES = ["align", "text", "user_text", "stats", "turns"];

export const Kind = Object.freeze({
  HELLO: 0x01,
  USER_AUDIO: 0x02,
  END: 0x03,
  ADJUST: 0x04,
  INTERRUPT: 0x05,
  FORGET: 0x06,
  PLAYED: 0x07,
  MARK: 0x08,
  READY: 0x81,
  REPLY_AUDIO: 0x82,
  TEXT: 0x83,
  STATS: 0x84,
  ERROR: 0x85,
  TURN: 0x86,
  INTERRUPTED: 0x87,
  ALIGN: 0x88,
  MARKED: 0x89,
  USER_TEXT: 0x8a,
});

const NUMBERED_BYTES = 5;
const REPLY_HEAD_BYTES = 10; // even, so that the PCM16 behind it is aligned
const PRESENT = 0x01;
const AUDIBLE = 0x02;
const WHO = ["user", "reply"];
const EVENT = ["started", "stopped"];
const JSON_TYPES = new Map([
  [Kind.READY, "ready"],
  [Kind.STATS, "stats"],
  [Kind.ERROR, "error"],
]);

/** Bytes that are no message of this version. */
export class WireError extends Error {}

/** Hello: `fields` are the keys of docs/protocol.md; the version is ours. */
export const hello = (fields) => withJson(Kind.HELLO, { version: VERSION, ...fields });

/** Sound number `seq` of this connection: `sound` is Int16Array PCM, mono, or the bytes of an Opus packet. */
export function audio(seq, sound) {
  const body = new Uint8Array(sound.buffer, sound.byteOffset, sound.byteLength);
  const bytes = numbered(Kind.USER_AUDIO, seq, body.length);
  bytes.set(body, NUMBERED_BYTES);
  return bytes;
}

/** From the next frame on another voice, style, temperature or top_k; what is not said stays. */
export const adjust = (fields) => withJson(Kind.ADJUST, fields);
export const end = () => Uint8Array.of(Kind.END);
export const interrupt = () => Uint8Array.of(Kind.INTERRUPT);
export const forget = () => Uint8Array.of(Kind.FORGET);

/** Reply frames up to and without this one were played. */
export const played = (frame) => numbered(Kind.PLAYED, frame, 0);

/** The label comes back once all sound before it is answered. */
export function mark(label) {
  const text = new TextEncoder().encode(label);
  const bytes = new Uint8Array(1 + text.length);
  bytes[0] = Kind.MARK;
  bytes.set(text, 1);
  return bytes;
}

/**
 * What a server said, from the ArrayBuffer of one WebSocket message: an object whose `type` is one of ready,
 * audio, text, userText, stats, error, turn, interrupted, align, marked. Throws WireError.
 */
export function decode(buffer) {
  const view = new DataView(buffer);
  if (!buffer.byteLength) throw new WireError("an empty message");
  const kind = view.getUint8(0);
  try {
    return JSON_TYPES.has(kind) ? fromJson(kind, buffer) : fromNumbers(kind, view, buffer);
  } catch (error) {
    if (error instanceof WireError) throw error;
    throw new WireError(`kind 0x${kind.toString(16)} cannot be read: ${error.message}`);
  }
}

function fromJson(kind, buffer) {
  return { ...JSON.parse(utf8(buffer, 1)), type: JSON_TYPES.get(kind) };
}

function fromNumbers(kind, view, buffer) {
  switch (kind) {
    case Kind.REPLY_AUDIO: {
      const flags = view.getUint8(5);
      return {
        type: "audio",
        seq: view.getUint32(1, true),
        present: Boolean(flags & PRESENT),
        audible: Boolean(flags & AUDIBLE),
        spentMs: view.getFloat32(6, true),
        bytes: new Uint8Array(buffer, REPLY_HEAD_BYTES),
      };
    }
    case Kind.TEXT:
      return { type: "text", seq: view.getUint32(1, true), text: utf8(buffer, NUMBERED_BYTES) };
    case Kind.USER_TEXT:
      return { type: "userText", seq: view.getUint32(1, true), text: utf8(buffer, NUMBERED_BYTES) };
    case Kind.TURN:
      return turn(view);
    case Kind.INTERRUPTED:
      return { type: "interrupted", frame: view.getUint32(1, true) };
    case Kind.ALIGN:
      return { type: "align", shiftMs: view.getFloat32(1, true) };
    case Kind.MARKED:
      return { type: "marked", frame: view.getUint32(1, true), label: utf8(buffer, NUMBERED_BYTES) };
    default:
      throw new WireError(`kind 0x${kind.toString(16)} is not in version ${VERSION}`);
  }
}

function turn(view) {
  const [who, event] = [WHO[view.getUint8(1)], EVENT[view.getUint8(2)]];
  if (!who || !event) throw new WireError("a turn of nobody");
  return { type: "turn", who, event, frame: view.getUint32(3, true) };
}

/** The samples of PCM16 bytes: Int16Array. Every machine with a browser is little endian, as the wire is. */
export function samplesOf(bytes) {
  if (bytes.byteLength % 2) throw new WireError("half a sample");
  return new Int16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
}

function numbered(kind, number, room) {
  const bytes = new Uint8Array(NUMBERED_BYTES + room);
  bytes[0] = kind;
  new DataView(bytes.buffer).setUint32(1, number, true);
  return bytes;
}

function withJson(kind, fields) {
  // ASCII: what is not, is escaped.
  const text = JSON.stringify(fields).replace(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  const bytes = new Uint8Array(1 + text.length);
  bytes[0] = kind;
  for (let index = 0; index < text.length; index += 1) bytes[1 + index] = text.charCodeAt(index);
  return bytes;
}

function utf8(buffer, start) {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(buffer, start));
}
