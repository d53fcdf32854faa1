"""Agents that dial in: which nodes there are, what each is given, and what it says."""
