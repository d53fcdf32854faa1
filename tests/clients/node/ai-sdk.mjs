// The AI SDK's own client against a server: its default transport, and the chat class behind useChat.
//
//   node ai-sdk.mjs http://127.0.0.1:8080 [prefix, such as /alumia] [key]
//
// Prints TAP. Needs an `echo` agent whose stage directions are on. Nothing here is of the server's side.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import {
  DefaultChatTransport,
  convertToModelMessages,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
  validateUIMessages,
} from 'ai';
import { Chat } from '@ai-sdk/react';

const base = `${process.argv[2] ?? process.env.TURNWIRE_URL}${process.argv[3] ?? ''}/api/v1`;
const headers = process.argv[4] ? { authorization: `Bearer ${process.argv[4]}` } : {};
const LIMIT = 20_000;

async function call(method, path, body) {
  const response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response.json();
}

const session = async () => (await call('POST', '/sessions', {})).id;
const stored = async (id) => (await call('GET', `/sessions/${id}/messages`)).items;
const textOf = (message) => message.parts.filter((part) => part.type === 'text').map((part) => part.text).join('');
const toolOf = (message) => message.parts.find((part) => part.type.startsWith('tool-'));

// The chat class behind useChat, and what happened to it.
function chat(id, options = {}) {
  const errors = [];
  const finished = [];
  const transport = new DefaultChatTransport({ api: `${base}/chat`, headers });
  const made = new Chat({
    id,
    transport,
    messages: [],
    onError: (error) => errors.push(error),
    onFinish: (end) => finished.push(end),
    ...options,
  });
  return Object.assign(made, { errors, finished });
}

async function until(what, holds) {
  const end = Date.now() + LIMIT;
  for (;;) {
    const found = await holds();
    if (found) return found;
    assert.ok(Date.now() < end, `waited for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// What a client shows and what the server has must be the same to a reader.
function shown(message) {
  return {
    id: message.id,
    role: message.role,
    parts: message.parts
      .map(({ type, text, state, toolCallId, input, output, errorText, url, mediaType, data }) => ({
        type, text, state, toolCallId, input, output, errorText, url, mediaType, data,
      }))
      .map((part) => JSON.parse(JSON.stringify(part))),
  };
}

async function same(client, id) {
  const items = await stored(id);
  assert.deepEqual(client.messages.map(shown), items.map(shown));
  await validateUIMessages({ messages: items });
  await convertToModelMessages(items);
  return items;
}

test('a message is sent, and its reply is read as it comes', async () => {
  const id = await session();
  const client = chat(id);
  const texts = new Set();
  const stop = setInterval(() => client.lastMessage && texts.add(textOf(client.lastMessage)), 5);
  await client.sendMessage({ text: '/pace 700\n/say one |two |three' });
  clearInterval(stop);
  assert.equal(client.status, 'ready');
  assert.equal(textOf(client.lastMessage), 'one two three');
  assert.ok(texts.size > 2, 'it did not come in pieces');
  assert.deepEqual(client.errors, []);
  assert.equal(client.finished[0].finishReason, 'stop');
  await same(client, id);
});

test('whatever the agent shows is the same in the chat and in the list', async () => {
  const id = await session();
  const client = chat(id);
  await client.sendMessage({
    text: [
      '/reason Let me |think',
      '/tool search {"q":"x"} => {"hits":[1,2]}',
      '/tool broken {} !> no luck',
      '/say Found |it',
      '/step',
      '/source https://example.com Example',
      '/data chart {"points":[1,2]}',
      '/say done',
    ].join('\n'),
    metadata: { from: 'test' },
  });
  assert.deepEqual(client.errors, []);
  const items = await same(client, id);
  assert.deepEqual(items[0].metadata, { from: 'test' });
  const kinds = items[1].parts.map((part) => part.type);
  for (const kind of ['step-start', 'reasoning', 'tool-search', 'tool-broken', 'text', 'source-url', 'data-chart']) {
    assert.ok(kinds.includes(kind), kind);
  }
});

test('a chat that is seeded from the list goes on where it was', async () => {
  const id = await session();
  await chat(id).sendMessage({ text: '/say first' });
  const client = chat(id, { messages: await stored(id) });
  await client.sendMessage({ text: '/say second' });
  assert.deepEqual(client.messages.map((message) => message.role), ['user', 'assistant', 'user', 'assistant']);
  await same(client, id);
});

test('a second client joins in the midst of a turn and sees all of it', async () => {
  const id = await session();
  const first = chat(id);
  const sent = first.sendMessage({ text: '/repeat 20 word\n/sleep 2000\n/repeat 40 word' });
  await until('the turn runs', () => first.status === 'streaming');
  const second = chat(id, { messages: await stored(id) });
  await second.resumeStream();
  await sent;
  assert.equal(textOf(second.lastMessage), 'word '.repeat(60));
  assert.deepEqual(shown(second.lastMessage), shown(first.lastMessage));
  await same(second, id);
});

test('a page that is reloaded in the midst of a turn loses nothing', async () => {
  const id = await session();
  const before = chat(id);
  const sent = before.sendMessage({ text: '/repeat 20 word\n/sleep 2000\n/repeat 20 word' });
  await until('some text', () => before.lastMessage?.role === 'assistant' && textOf(before.lastMessage));
  await before.stop();
  await sent;
  const after = chat(id, { messages: await stored(id) });
  await after.resumeStream();
  assert.equal(textOf(after.lastMessage), 'word '.repeat(40));
  await same(after, id);
});

test('there is nothing to resume when nothing runs', async () => {
  const id = await session();
  const client = chat(id);
  await client.resumeStream();
  assert.equal(client.status, 'ready');
  assert.deepEqual([client.messages, client.errors], [[], []]);
});

test('a turn that the server stops ends for its client with what it had said', async () => {
  const id = await session();
  const client = chat(id);
  const sent = client.sendMessage({ text: '/pace 20\n/repeat 1000 word' });
  await until('some text', () => client.lastMessage?.role === 'assistant' && textOf(client.lastMessage));
  assert.deepEqual(await call('POST', `/chat/${id}/stop`), { stopped: true });
  await sent;
  assert.equal(client.status, 'ready');
  assert.deepEqual(client.errors, []);
  const items = await same(client, id);
  assert.equal(items[1].status, 'stopped');
  assert.deepEqual(await call('POST', `/chat/${id}/stop`), { stopped: false });
});

test('a client may post again at once when its turn has ended', async () => {
  const id = await session();
  const client = chat(id);
  for (const word of ['a', 'b', 'c', 'd', 'e']) await client.sendMessage({ text: `/say ${word}` });
  assert.deepEqual(client.errors, []);
  assert.equal((await same(client, id)).length, 10);
});

test('a reply is regenerated under a new id', async () => {
  const id = await session();
  const client = chat(id);
  await client.sendMessage({ text: '/say one' });
  const old = client.lastMessage.id;
  await client.regenerate();
  assert.notEqual(client.lastMessage.id, old);
  assert.equal((await same(client, id)).length, 2);
  await client.sendMessage({ text: '/say two' });
  await client.regenerate({ messageId: client.messages[1].id });
  assert.equal((await same(client, id)).length, 2);
});

test('an edited message drops what came after it', async () => {
  const id = await session();
  const client = chat(id);
  await client.sendMessage({ text: '/say one' });
  await client.sendMessage({ text: '/say two' });
  await client.sendMessage({ text: '/say other', messageId: client.messages[0].id });
  const items = await same(client, id);
  assert.deepEqual(items.map((message) => message.content), ['/say other', 'other']);
});

test('a failure is an error for the client, with every part closed', async () => {
  const id = await session();
  const client = chat(id);
  await client.sendMessage({ text: '/say part\n/crash secret' });
  assert.equal(client.status, 'error');
  assert.equal(client.errors[0].message, 'An error occurred.');
  assert.equal(client.lastMessage.parts.at(-1).state, 'done');
  client.clearError();
  await same(client, id);
});

test('what the server refuses is an error with its text', async () => {
  const client = chat('none');
  await client.sendMessage({ text: 'x' });
  assert.deepEqual(JSON.parse(client.errors[0].message).error.code, 'NOT_FOUND');
});

test('an approved call goes on by itself in the same message', async () => {
  const id = await session();
  const client = chat(id, { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses });
  await client.sendMessage({ text: '/say Shall I?\n/ask send {"to":1} => {"ok":true}\n/say Sent' });
  const asked = client.lastMessage;
  assert.equal(toolOf(asked).state, 'approval-requested');
  assert.equal(client.finished[0].finishReason, 'tool-calls');
  await client.addToolApprovalResponse({ id: toolOf(asked).approval.id, approved: true });
  await until('the reply goes on', () => client.status === 'ready' && textOf(client.lastMessage).includes('Sent'));
  assert.equal(client.lastMessage.id, asked.id);
  assert.equal(client.messages.length, 2);
  assert.deepEqual(toolOf(client.lastMessage).output, { ok: true });
  assert.deepEqual(client.errors, []);
  await same(client, id);
});

test('a denied call is denied in the chat and in the list', async () => {
  const id = await session();
  const client = chat(id);
  await client.sendMessage({ text: '/ask send {} => 1\n/say Well' });
  await client.addToolApprovalResponse({ id: toolOf(client.lastMessage).approval.id, approved: false, reason: 'no' });
  await client.sendMessage();
  assert.equal(toolOf(client.lastMessage).state, 'output-denied');
  assert.equal(toolOf((await same(client, id))[1]).approval.reason, 'no');
});

test('the result of a tool that the client runs goes on by itself', async () => {
  const id = await session();
  const called = [];
  const client = chat(id, {
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: async ({ toolCall }) => {
      called.push(toolCall.toolName);
      client.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { lat: 1.5 } });
    },
  });
  await client.sendMessage({ text: '/client locate {"a":1}\n/say There' });
  await until('the reply goes on', () => client.status === 'ready' && textOf(client.lastMessage).includes('There'));
  assert.deepEqual(called, ['locate']);
  assert.deepEqual(client.errors, []);
  const items = await same(client, id);
  assert.deepEqual(toolOf(items[1]).output, { lat: 1.5 });
});

test('a continuation that is joined in its midst is the whole message, once', async () => {
  const id = await session();
  const first = chat(id);
  await first.sendMessage({ text: '/say Before\n/ask send {} => 1\n/repeat 20 word\n/sleep 2000\n/repeat 20 word' });
  await first.addToolApprovalResponse({ id: toolOf(first.lastMessage).approval.id, approved: true });
  const sent = first.sendMessage();
  await until('it goes on', () => first.status === 'streaming');
  const seeded = await stored(id);
  assert.equal(seeded.length, 1, 'the message is hidden while it is written');
  const second = chat(id, { messages: seeded });
  await second.resumeStream();
  await sent;
  for (const client of [first, second]) {
    assert.equal(textOf(client.lastMessage), `Before${'word '.repeat(40)}`);
    await same(client, id);
  }
});

test('an app may send its newest message alone', async () => {
  const id = await session();
  const transport = new DefaultChatTransport({
    api: `${base}/chat`,
    headers,
    prepareSendMessagesRequest: ({ id, messages }) => ({ body: { id, message: messages.at(-1) } }),
  });
  const client = chat(id, { transport });
  await client.sendMessage({ text: '/say one' });
  await client.sendMessage({ text: '/say two' });
  assert.deepEqual(client.errors, []);
  assert.equal((await same(client, id)).length, 4);
});

test('a file is kept as it was sent', async () => {
  const id = await session();
  const client = chat(id);
  const file = { type: 'file', mediaType: 'image/png', filename: 'a.png', url: 'data:image/png;base64,iVBORw0KGgo=' };
  await client.sendMessage({ text: '/say seen', files: [file] });
  assert.deepEqual((await same(client, id))[0].parts[0], file);
});

