// A chat by the AI SDK's own class, as useChat does it: node usechat.mjs BASE SESSION TEXT
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";

const [base, id, text] = process.argv.slice(2);
const chat = new Chat({ id, transport: new DefaultChatTransport({ api: `${base}/api/v1/chat` }) });
await chat.sendMessage({ text });
for (const part of chat.lastMessage.parts) console.log(JSON.stringify(part));
