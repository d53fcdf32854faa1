// What the AI SDK makes of streams and lists that were not made for this test.
//
// Reads {"streams": [text of an event stream, ...], "lists": [[message, ...], ...]} from standard input. Prints
// {"messages": [what the SDK read of each stream, or {"error": text}, ...], "lists": [null or an error's text, ...]}.
import { DefaultChatTransport, convertToModelMessages, readUIMessageStream, validateUIMessages } from 'ai';

class Reader extends DefaultChatTransport {
  read(text) {
    return this.processResponseStream(new Blob([text]).stream());
  }
}

async function read(text) {
  const failed = [];
  let last;
  try {
    const stream = new Reader().read(text);
    for await (const message of readUIMessageStream({ stream, onError: (error) => failed.push(error.message) })) {
      last = message;
    }
  } catch (error) {
    return { thrown: error.message };
  }
  return { message: last, failed };
}

async function check(messages) {
  try {
    await validateUIMessages({ messages });
    await convertToModelMessages(messages);
    return null;
  } catch (error) {
    return error.message;
  }
}

let text = '';
for await (const chunk of process.stdin) text += chunk;
const { streams, lists } = JSON.parse(text);
const messages = [];
for (const stream of streams) messages.push(await read(stream));
const checked = [];
for (const list of lists) checked.push(await check(list));
process.stdout.write(JSON.stringify({ messages, lists: checked }));
