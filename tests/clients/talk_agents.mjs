// `@openai/agents-realtime` holds a conversation: node talk_agents.mjs FOLDER PORT KEY. Prints what it saw.
import assert from 'node:assert';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, port, key] = process.argv.slice(2);
const found = createRequire(`${folder}/package.json`).resolve('@openai/agents-realtime');
const { RealtimeAgent, RealtimeSession } = await import(pathToFileURL(found).href);

const tone = Int16Array.from({ length: 19200 }, (_, n) => (n < 9600 ? 8000 * Math.sin(n / 10) : 0));
const agent = new RealtimeAgent({ name: 'kind', instructions: 'Be kind.' });
const session = new RealtimeSession(agent, { transport: 'websocket', model: 'gpt-realtime' });
const seen = {}, errors = [];
let bytes = 0, interrupted = 0, statuses = [];
session.on('audio', (event) => (bytes += event.data.byteLength));
session.on('audio_interrupted', () => (interrupted += 1));
session.on('error', (event) => errors.push(event.error?.error?.error?.code ?? String(event.error)));
const waits = [];
session.transport.on('*', (event) => {
  seen[event.type] = (seen[event.type] ?? 0) + 1;
  if (event.type === 'response.done') statuses.push(event.response.status);
  for (const wait of [...waits]) if (wait.kind === event.type) waits.splice(waits.indexOf(wait), 1)[0].go(event);
});
const until = (kind) => new Promise((go, fail) => {
  waits.push({ kind, go });
  setTimeout(() => fail(new Error(`no ${kind}; saw ${JSON.stringify(seen)}`)), 10000).unref();
});

const updated = until('session.updated');
await session.connect({ apiKey: key, url: `ws://127.0.0.1:${port}/v1/realtime?model=gpt-realtime` });
await updated;
let done = until('response.done');
session.sendAudio(tone.buffer);
await done;
const whole = bytes;
const spoken = session.history.filter((item) => item.role === 'assistant').map((item) => item.content);

let delta = until('response.output_audio.delta');
session.sendAudio(tone.buffer);
await delta;
done = until('response.done');
session.interrupt();
await done;

done = until('response.done');
session.sendMessage('Hello');
await done;
await new Promise((go) => setTimeout(go, 200));
const history = session.history.map((item) => item.role);
session.close();
console.log(JSON.stringify({ whole, interrupted, statuses, errors, history, spoken, seen }));
assert.deepEqual(statuses, ['completed', 'cancelled', 'failed']);
assert.equal(whole % 1920, 0);
assert.ok(whole > 0 && interrupted > 0);
assert.deepEqual(errors, []);
assert.ok(spoken[0][0].transcript.length > 0);
assert.ok(seen['conversation.item.truncated'] > 0);
process.exit(0);
