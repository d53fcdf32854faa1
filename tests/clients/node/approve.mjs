// A question that is answered when its server has been away meanwhile: node approve.mjs BASE SESSION
// Prints the message that asks, approves by a line on standard input, and prints the messages at the end.
import { createInterface } from "node:readline/promises";
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";

const [base, id] = process.argv.slice(2);
const errors = [];
let onFinish = () => {};
const chat = new Chat({
  id,
  transport: new DefaultChatTransport({ api: `${base}/api/v1/chat` }),
  sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  onError: (error) => errors.push(error.message),
  onFinish: () => onFinish(),
});
await chat.sendMessage({ text: '/say before\n/ask rm {"path":"x"} => {"ok":true}\n/say after' });
console.log(JSON.stringify(chat.lastMessage));
const input = createInterface({ input: process.stdin });
await input[Symbol.asyncIterator]().next();
input.close();
const over = new Promise((resolve) => (onFinish = resolve));
const part = chat.lastMessage.parts.find(({ state }) => state === "approval-requested");
await chat.addToolApprovalResponse({ id: part.approval.id, approved: true });
await over;
console.log(JSON.stringify({ messages: chat.messages, errors }));
