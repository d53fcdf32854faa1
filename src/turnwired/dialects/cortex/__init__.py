"""The Cortex Hub sessions API. Source: contracts/cortex.md."""
