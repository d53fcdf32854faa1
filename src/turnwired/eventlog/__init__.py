"""The journal: what is written to the log goes through one flusher, and what is read of it is followed from here."""
