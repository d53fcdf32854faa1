"""The surface that the AI SDK's `useChat` speaks, and Alumia's session API round it. Source: contracts/alumia.md."""
