"""What answers in a session, as a stream of parts: embedded agents, and the protocol that all agents keep."""
