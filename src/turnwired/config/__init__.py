"""Settings: what they are, where each came from, and what was found beside them."""
