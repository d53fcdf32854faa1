"""The agents that nodes ever served: known also while nothing serves them."""

STATEMENTS = (
    "CREATE INDEX node_by_seen ON node (seen_us)",
    """CREATE TABLE node_agent (
        namespace {text} NOT NULL, id {text} NOT NULL, seen_us BIGINT NOT NULL, data {blob} NOT NULL,
        PRIMARY KEY (namespace, id))""",
    "CREATE INDEX node_agent_by_seen ON node_agent (seen_us)",
)
