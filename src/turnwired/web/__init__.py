"""The HTTP side's mechanism: what two dialects or more need, and nothing of any one of them."""
