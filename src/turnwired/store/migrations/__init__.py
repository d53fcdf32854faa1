"""Numbered, forward-only changes of the schema: modules `NNNN_what`, each with `STATEMENTS` or `up(db)`."""
