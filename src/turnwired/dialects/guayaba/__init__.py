"""The Guayaba agent sessions API. Source: contracts/guayaba.md."""
