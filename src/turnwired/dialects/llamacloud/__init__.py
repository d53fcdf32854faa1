"""LlamaCloud's chat API, as its Python and TypeScript SDKs call it. Source: contracts/llamacloud.md."""
