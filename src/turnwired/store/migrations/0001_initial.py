"""The first schema. `{text}` and the like are the types of the store at hand (see migrate.py)."""

STATEMENTS = (
    """CREATE TABLE session (
        id {text} PRIMARY KEY, namespace {text} NOT NULL, number BIGINT NOT NULL UNIQUE, owner {text} NOT NULL,
        agent {text} NOT NULL, state INTEGER NOT NULL, origin {text} NOT NULL, pending INTEGER NOT NULL,
        create_us BIGINT NOT NULL, update_us BIGINT NOT NULL, touch_us BIGINT NOT NULL, delete_us BIGINT,
        purge_us BIGINT, archive_us BIGINT, version BIGINT NOT NULL, head BIGINT NOT NULL, generation BIGINT NOT NULL,
        compacted_seq BIGINT NOT NULL, blanked_seq BIGINT NOT NULL, message_us BIGINT NOT NULL, fence_turn {text},
        fence_attempt INTEGER NOT NULL, purged BOOLEAN NOT NULL, data {blob} NOT NULL)""",
    "CREATE INDEX session_by_update ON session (namespace, update_us, id)",
    "CREATE INDEX session_by_create ON session (namespace, create_us, number)",
    "CREATE INDEX session_by_owner ON session (namespace, owner, create_us)",
    "CREATE INDEX session_by_agent ON session (namespace, agent, update_us)",
    "CREATE INDEX session_by_touch ON session (namespace, touch_us)",
    "CREATE INDEX session_by_purge ON session (purge_us) WHERE purge_us IS NOT NULL",
    "CREATE INDEX session_by_archive ON session (namespace, archive_us, id) WHERE archive_us IS NOT NULL",
    """CREATE TABLE session_label (
        session {text} NOT NULL, key {text} NOT NULL, namespace {text} NOT NULL, value {text} NOT NULL,
        PRIMARY KEY (session, key))""",
    "CREATE INDEX session_label_by_value ON session_label (namespace, key, value)",
    """CREATE TABLE session_alias (
        session {text} NOT NULL, scope {text} NOT NULL, namespace {text} NOT NULL, value {text} NOT NULL,
        agent {text} NOT NULL, hold INTEGER NOT NULL, held BOOLEAN NOT NULL, PRIMARY KEY (session, scope, value))""",
    "CREATE UNIQUE INDEX session_alias_held ON session_alias (namespace, scope, value, agent) WHERE held",
    # A look-up by alias also finds what an archived session gave up.
    "CREATE INDEX session_alias_by_value ON session_alias (namespace, scope, value)",
    """CREATE TABLE message (
        id {text} PRIMARY KEY, session {text} NOT NULL, number BIGINT NOT NULL, seq BIGINT, role INTEGER NOT NULL,
        state INTEGER NOT NULL, client_id {text}, turn {text}, has_content BOOLEAN NOT NULL, create_us BIGINT NOT NULL,
        data {blob} NOT NULL, {unique_number})""",
    # The columns behind `number` are what lists filter by: counting and skipping then read no rows.
    "CREATE INDEX message_by_number ON message (session, number, state, role, has_content)",
    "CREATE UNIQUE INDEX message_seq ON message (session, seq) WHERE seq IS NOT NULL",
    "CREATE UNIQUE INDEX message_client_id ON message (session, client_id) WHERE client_id IS NOT NULL",
    """CREATE TABLE turn (
        id {text} PRIMARY KEY, session {text} NOT NULL, namespace {text} NOT NULL, number BIGINT NOT NULL,
        state INTEGER NOT NULL, attempt INTEGER NOT NULL, agent {text} NOT NULL, request_id {text},
        digest {blob} NOT NULL, input_message {text}, output_message {text} NOT NULL, owner {text},
        lease_us BIGINT, deadline_us BIGINT, spoke BOOLEAN NOT NULL, first_seq BIGINT NOT NULL,
        last_seq BIGINT NOT NULL, compacted BOOLEAN NOT NULL,
        end_us BIGINT, data {blob} NOT NULL, {unique_number})""",
    "CREATE INDEX turn_by_session ON turn (session, number)",
    # 2 is RUNNING, 3 AWAITING_INPUT: at most one such turn a session.
    "CREATE UNIQUE INDEX turn_slot ON turn (session) WHERE state IN (2, 3)",
    "CREATE UNIQUE INDEX turn_request ON turn (session, request_id) WHERE request_id IS NOT NULL",
    "CREATE INDEX turn_open ON turn (state, lease_us) WHERE state IN (1, 2, 3)",
    "CREATE INDEX turn_open_by_namespace ON turn (namespace) WHERE state IN (1, 2, 3)",
    "CREATE INDEX turn_to_compact ON turn (end_us) WHERE end_us IS NOT NULL AND NOT compacted",
    # In the order of writing, on SQLite too: by its key, a commit over many sessions would touch two pages of each.
    """CREATE TABLE event (
        session {text} NOT NULL, last_seq BIGINT NOT NULL, first_seq BIGINT NOT NULL, turn {text},
        coarse BOOLEAN NOT NULL, time_us BIGINT NOT NULL, data {blob} NOT NULL, PRIMARY KEY (session, last_seq))""",
    """CREATE TABLE api_key (
        id {text} PRIMARY KEY, namespace {text} NOT NULL, hash {blob} NOT NULL UNIQUE, prefix {text} NOT NULL,
        create_us BIGINT NOT NULL, expire_us BIGINT, revoke_us BIGINT, tokens_used BIGINT NOT NULL,
        data {blob} NOT NULL)""",
    "CREATE INDEX api_key_by_namespace ON api_key (namespace, create_us)",
    """CREATE TABLE attachment (
        id {text} PRIMARY KEY, session {text} NOT NULL, message {text}, slot {text}, size BIGINT NOT NULL,
        complete BOOLEAN NOT NULL, create_us BIGINT NOT NULL, data {blob} NOT NULL)""",
    "CREATE INDEX attachment_by_session ON attachment (session)",
    """CREATE UNIQUE INDEX attachment_slot ON attachment (message, slot)
        WHERE message IS NOT NULL AND slot IS NOT NULL AND complete""",
    """CREATE TABLE attachment_chunk (
        attachment {text} NOT NULL, start BIGINT NOT NULL, data {blob} NOT NULL, PRIMARY KEY (attachment, start))""",
    """CREATE TABLE node (
        namespace {text} NOT NULL, id {text} NOT NULL, owner {text}, seen_us BIGINT NOT NULL, data {blob} NOT NULL,
        PRIMARY KEY (namespace, id))""",
    """CREATE TABLE session_node (
        session {text} NOT NULL, node {text} NOT NULL, position BIGINT NOT NULL, data {blob} NOT NULL,
        PRIMARY KEY (session, node))""",
    "CREATE TABLE secret (name {text} PRIMARY KEY, data {blob} NOT NULL)",
    "{counter}",
)
