// The TypeScript SDK of LlamaCloud against a server: the whole chat resource.
//
//   node llamacloud.mjs URL CUTTING_URL [KEY]
//
// URL may carry a path prefix. CUTTING_URL is the same server behind something that cuts the connection on which a
// prompt came for the first time, before it is answered. The server's echo agent plays stage directions. Prints TAP.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import LlamaCloud from '@llamaindex/llama-cloud';

const [baseURL, cutURL, key = ''] = process.argv.slice(2);
const SCRIPT = '/reason Look|ing\n/tool search {"query":"Q3"} => {"hits":2}\n/say Revenue \u2014| up\u2028';
const TURN = ['user_input', 'thinking', 'tool_call', 'tool_result', 'text', 'stop'];

// A client, and what it sends: each request's method and how often it was sent before.
function client(options = {}) {
  const sent = [];
  const made = new LlamaCloud({
    baseURL,
    apiKey: key || 'none',
    fetch: (url, init) => {
      sent.push([init.method.toUpperCase(), new Headers(init.headers).get('x-stainless-retry-count')]);
      return fetch(url, init);
    },
    ...options,
  });
  return { chat: made.beta.chat, client: made, sent };
}

const { chat } = client();
const session = async (params) => (await chat.create(params)).session_id;
const read = (text) =>
  text.split('\n').filter((line) => line.startsWith('data: ')).map((line) => JSON.parse(line.slice(6)));
const kinds = (events) => events.map((event) => event.type);
const complete = (events) => events.filter((event) => !event.type.endsWith('_delta'));

test('a session lives from create to delete', async () => {
  const made = await chat.create();
  assert.match(made.session_id, /^ses-[A-Za-z0-9_-]+$/);
  assert.deepEqual([made.generated_title, made.index_ids, made.job_metadata], [null, null, null]);
  assert.ok(Math.abs(Date.parse(made.last_updated_at) - Date.now()) < 60_000, made.last_updated_at);
  const id = made.session_id;
  assert.deepEqual((await chat.retrieve(id)).events, []);
  const events = read(await chat.stream(id, { index_ids: ['idx-a'], prompt: SCRIPT }));
  assert.deepEqual(kinds(complete(events)), TURN.slice(1));
  const full = await chat.retrieve(id, { project_id: 'p1' });
  assert.deepEqual(kinds(full.events), TURN);
  assert.deepEqual(full.events.slice(1), complete(events));
  assert.equal(full.events[0].content, SCRIPT);
  const summary = await chat.getSummary(id);
  assert.deepEqual(summary.index_ids, ['idx-a']);
  const { duration_ms, total_input_tokens, total_output_tokens, turns } = full.events.at(-1).usage;
  assert.deepEqual(summary.job_metadata, {
    duration_ms,
    error: null,
    export_config_ids: null,
    is_error: false,
    total_input_tokens,
    total_output_tokens,
    turns,
  });
  const { events: _, ...rest } = full;
  assert.deepEqual(summary, rest);
  await chat.delete(id);
  await assert.rejects(chat.retrieve(id), LlamaCloud.NotFoundError);
  await assert.rejects(chat.delete(id), LlamaCloud.NotFoundError);
});

test('a turn is read while it is said', async () => {
  const id = await session({ index_ids: null });
  const response = await chat.stream(id, { index_ids: [], prompt: '/repeat 3 w\n/sleep 3000\n/repeat 5 w' }).asResponse();
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  const decoder = new TextDecoder();
  let text = '';
  let seen = 0;
  for await (const chunk of response.body) {
    text += decoder.decode(chunk, { stream: true });
    if (seen === 0 && read(text.slice(0, text.lastIndexOf('\n'))).length >= 2) {
      seen = read(text.slice(0, text.lastIndexOf('\n'))).length;
      assert.deepEqual(kinds((await chat.retrieve(id)).events), ['user_input']);
    }
  }
  assert.ok(seen >= 2 && seen < 8, `${seen}`);
  const events = read(text);
  assert.deepEqual(kinds(events), [...Array(8).fill('text_delta'), 'text', 'stop']);
  assert.equal(events.slice(0, 8).map((event) => event.content).join(''), events[8].content);
  const failed = read(await chat.stream(id, { index_ids: [], prompt: '/say Well\n/fail out of paper' })).at(-1);
  assert.deepEqual([failed.is_error, failed.error], [true, 'out of paper']);
  await chat.delete(id);
});

test('sessions are listed page by page', async () => {
  const made = [];
  for (let number = 0; number < 5; number += 1) made.unshift(await session({ project_id: 'pages' }));
  for (const page_size of [1, 2, 5, 7]) {
    const found = [];
    for await (const item of chat.list({ project_id: 'pages', page_size })) found.push(item.session_id);
    assert.deepEqual(found, made);
  }
  const first = await chat.list({ project_id: 'pages', page_size: 2 });
  assert.ok(first.hasNextPage());
  assert.deepEqual((await first.getNextPage()).items.map((item) => item.session_id), made.slice(2, 4));
  for (const id of made) await chat.delete(id);
  assert.deepEqual((await chat.list({ project_id: 'pages' })).items, []);
});

test('the title route is served, though this version has no method for it', async () => {
  const id = await session();
  const { client: of } = client();
  const titled = await of.post(`/api/v1/chat/${id}/title`, { body: { first_message: ' What about\tQ3? ' } });
  assert.equal(titled.generated_title, 'What about Q3?');
  assert.equal((await chat.getSummary(id)).generated_title, 'What about Q3?');
  await chat.delete(id);
});

test('the first turn fixes the indexes', async () => {
  const id = await session({ index_ids: ['x'] });
  assert.deepEqual((await chat.getSummary(id)).index_ids, ['x']);
  await chat.stream(id, { index_ids: ['b', 'a', 'b'], prompt: '/say 1' });
  await chat.stream(id, { index_ids: ['a', 'b'], prompt: '/say 2' });
  await chat.stream(id, { index_ids: [], prompt: '/say 3' });
  assert.deepEqual((await chat.getSummary(id)).index_ids, ['b', 'a']);
  await assert.rejects(chat.stream(id, { index_ids: ['x'], prompt: '/say 4' }), (error) => {
    assert.ok(error instanceof LlamaCloud.BadRequestError);
    assert.deepEqual(error.error, { detail: 'Session indexes are locked' });
    return true;
  });
  assert.deepEqual(kinds((await chat.retrieve(id)).events), Array(3).fill(['user_input', 'text', 'stop']).flat());
  await chat.delete(id);
});

test('errors have their types', async () => {
  const id = await session();
  const long = { index_ids: [], prompt: 'x'.repeat(1001) };
  await assert.rejects(chat.stream(id, long), LlamaCloud.UnprocessableEntityError);
  await assert.rejects(chat.list({ page_size: 0 }), LlamaCloud.UnprocessableEntityError);
  await assert.rejects(chat.list({ page_token: 'nothing' }), LlamaCloud.BadRequestError);
  await assert.rejects(chat.stream('ses-none', { index_ids: [], prompt: '' }), LlamaCloud.NotFoundError);
  if (key) {
    const { chat: stranger } = client({ apiKey: 'wrong' });
    await assert.rejects(stranger.list(), LlamaCloud.AuthenticationError);
    await assert.rejects(stranger.stream(id, { index_ids: [], prompt: '' }), LlamaCloud.AuthenticationError);
  }
  await chat.delete(id);
});

test('a busy session is told once', async () => {
  const id = await session();
  const response = await chat.stream(id, { index_ids: [], prompt: '/pace 50\n/repeat 1000 w' }).asResponse();
  const { chat: other, sent } = client();
  await assert.rejects(other.stream(id, { index_ids: [], prompt: 'another' }), LlamaCloud.ConflictError);
  assert.deepEqual(sent, [['POST', '0']]);
  await chat.delete(id);
  const events = read(await response.text());
  assert.deepEqual([events.at(-1).type, events.at(-1).error], ['stop', 'cancelled']);
});

test('a request that is cut and sent again is one turn', async () => {
  const { chat: cut, sent } = client({ baseURL: cutURL });
  const id = (await cut.create()).session_id;
  const events = read(await cut.stream(id, { index_ids: ['b', 'a'], prompt: '/pace 20\n/repeat 20 word' }));
  assert.deepEqual(sent, [['POST', '0'], ['POST', '0'], ['POST', '1']]);
  assert.deepEqual(kinds(events), [...Array(20).fill('text_delta'), 'text', 'stop']);
  const full = await cut.retrieve(id);
  assert.deepEqual(kinds(full.events), ['user_input', 'text', 'stop']);
  assert.equal(full.events[1].content, 'word '.repeat(20));
  await cut.delete(id);
});
