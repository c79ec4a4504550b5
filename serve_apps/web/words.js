// What went wrong, and what to do about it, in plain words.

const AGAIN = "Press Talk to try again.";

/** { title, text } by a SoundError's code. */
export function ofSound(code) {
  const words = {
    insecure: {
      title: "This address is not secure",
      text:
        "Browsers give a page sound only over HTTPS, or on localhost. Open this page with https://, " +
        "or on the machine the server runs on with http://localhost.",
    },
    refused: {
      title: "The microphone is blocked",
      text:
        "You, or your browser's settings, do not let this page use the microphone. Allow it with the " +
        "symbol beside the address, then press Talk again. You can also send a file instead.",
    },
    missing: {
      title: "No microphone was found",
      text: "Plug one in, or choose one in your system's settings, then press Talk again. You can also send a file.",
    },
    busy: {
      title: "The microphone cannot be used",
      text: "Another program may be holding it. Close that program, then press Talk again.",
    },
    gone: {
      title: "The microphone is gone",
      text: "It was unplugged or switched off. The conversation goes on; turn the microphone on again when it is back.",
    },
    unreadable: {
      title: "This file cannot be played",
      text: "Your browser does not know its format, or it is damaged. WAV, MP3 and FLAC are understood everywhere.",
    },
  };
  return words[code];
}

/** { title, text } by how a conversation ended; null when there is nothing to explain. */
export function ofEnding({ reason, message, retryS }) {
  const wait = retryS ? ` Come back in about ${Math.ceil(retryS)} seconds.` : "";
  const words = {
    done: null,
    left: null,
    no_seat: { title: "All seats are taken", text: `The server talks with as many people as it can.${wait}` },
    too_many_sessions: { title: "Too many conversations", text: `This key already holds as many as it may.${wait}` },
    too_many_new_sessions: { title: "Too many new conversations", text: `Too many were started in a short time.${wait}` },
    unauthorized: { title: "A key is needed", text: "The server does not know this key. Type one that it knows." },
    unsupported_version: {
      title: "Page and server do not fit",
      text: "They speak different versions of the protocol. Reload the page to get the server's own.",
    },
    unreachable: {
      title: "The server cannot be reached",
      text: `Check your network, and that the server is running. ${AGAIN}`,
    },
    blocked: {
      title: "The server refuses this page's address",
      text:
        "The server answers, but takes no conversation from here: it does not know this address as its own " +
        "(setting security.origins), or a proxy in between does not pass WebSockets.",
    },
    lost: {
      title: "The connection was lost",
      text: `It could not be taken up again, so this conversation is over. ${AGAIN}`,
    },
    stage_lost: { title: "The model stopped", text: `A part of the server went away. ${AGAIN}` },
    internal_error: { title: "The server made a mistake", text: `Its log says which. ${AGAIN}` },
    unknown_token: {
      title: "The conversation is over",
      text: `The connection was away for too long, and the server has let it go. ${AGAIN}`,
    },
    resumed: { title: "Taken over", text: "This conversation goes on in another window." },
    too_long: { title: "The time is up", text: `A conversation may last only so long here. ${AGAIN}` },
    idle: { title: "Nothing was heard for long", text: `The server has ended the conversation. ${AGAIN}` },
    slow_reader: { title: "Your network is too slow", text: `The reply came faster than it could be read. ${AGAIN}` },
    forbidden_origin: { title: "This page may not connect", text: "The server takes no conversation from this address." },
    protocol: { title: "Page and server do not fit", text: "The server said something unknown. Reload the page." },
  };
  if (reason in words) return words[reason];
  return { title: "The server ended the conversation", text: `It said: ${message ?? reason}. ${AGAIN}` };
}
