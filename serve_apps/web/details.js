// The connection's numbers, under More.

/** Fill a `dl`: of a conversation that is seated, of what is played, and of the server's last Stats. */
export function showDetails(list, { counters, ready, roundTripMs }, report, stats) {
  const rows = {
    Session: ready.session_id,
    Server: ready.server,
    "Round trip": roundTripMs === null ? "–" : `${roundTripMs.toFixed(1)} ms`,
    "Frames sent, received": `${counters.framesSent}, ${counters.framesReceived}`,
    "Late at the server, lost": `${stats?.late_frames ?? 0}, ${counters.lostFrames}`,
    "Waiting to be played": `${Math.round(report.queuedMs ?? 0)} ms`,
    "Gaps heard": report.underruns ?? 0,
    "Taken up again": counters.resumes,
  };
  const cells = Object.entries(rows).flatMap(([name, value]) =>
    [["dt", name], ["dd", value]].map(([tag, text]) =>
      Object.assign(document.createElement(tag), { textContent: text }),
    ),
  );
  list.replaceChildren(...cells);
}
