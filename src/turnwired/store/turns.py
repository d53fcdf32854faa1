"""Recording a turn: the one transaction that writes the user's message, the agent's, and the turn (D4)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from turnwire.v1 import event_pb2, message_pb2, reason_pb2, session_pb2, turn_pb2, turn_service_pb2
from turnwired.errors import Fault
from turnwired.rules import answers, fold, names
from turnwired.rules.caller import Caller
from turnwired.rules.titles import title_of
from turnwired.store import ending, leases, prompt, removal, resume, rows, sessions
from turnwired.store.schema import KeyRow, MessageRow, TurnRow
from turnwired.store.tx import Held, Tx

_T = turn_pb2.Turn
_R = turn_service_pb2

BUSY_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What the server's settings and its roster of agents say about new turns."""

    busy_policy: int
    waiting_policy: int
    queued_per_session: int
    per_namespace: int
    queue_wait_us: int
    default_agent: str
    known: Callable[[str, str], bool]
    """Whether an agent of this name was ever known in a namespace."""
    online: Callable[[str, str], bool]
    """Whether something serves it there now."""
    embedded: Callable[[str, str], bool]
    """Whether this process serves it by itself, so that it may claim a turn of it at once."""
    claimant: str = ""
    """The process that may claim the turn at once. Empty: it is left to the queue."""


@dataclass(slots=True)
class Recorded:
    """A turn that a call made, or that it attaches to."""

    turn: turn_pb2.Turn
    made: bool
    """Whether this call made it, or made it go on."""
    cursor: str = ""
    """Where what this call brings about begins in the log. Empty: at the turn's first event."""
    session: session_pb2.Session | None = None
    """Of a turn that this call made: its session as it is then."""


def record(tx: Tx, caller: Caller, request: _R.ChatRequest, terms: Terms, trace: str = "") -> Recorded:
    """Record a turn, or find the one that the request attaches to.

    In order: the session, its etag, the request's id, the attach window, the input's message, the policies, the limits,
    the agent. Raises what TurnService.Chat names. Nothing is written unless all is well. `trace` is the call's
    `traceparent`.
    """
    held = rows.hold_session(tx, caller, request.parent, field="parent")
    if (found := _same_request(tx, held, request)) or (found := _attachable(tx, held, request)):
        return Recorded(found, made=False)
    if request.session_etag and request.session_etag != held.session.etag:
        raise Fault(reason_pb2.REASON_ETAG_MISMATCH, "the session has changed", session=held.name)
    plan = prompt.plan(tx, held, request)
    if plan.attach is not None:
        return Recorded(plan.attach, made=False)
    if plan.resume is not None:
        patch_session(tx, caller, held, request)
        plan.resume.trace = trace or plan.resume.trace
        return _resume(tx, held, terms, plan, plan.resume)
    agent = _agent(caller, held, request, terms)
    _check_limits(tx, held, caller, terms)
    _clear_the_way(tx, held, request, terms, plan)
    patch_session(tx, caller, held, request)
    user, output = prompt.write(tx, held, request, plan)
    turn, row = _insert(tx, held, caller, request, terms, agent, user, output)
    row.trace = trace or None
    _announce(tx, held, request, turn, row, user, output, terms, new_user=plan.new_user)
    session = session_pb2.Session()
    session.CopyFrom(held.session)
    session.cursor = held.cursor
    return Recorded(rows.to_turn(row), made=True, session=session)


def _resume(tx: Tx, held: Held, terms: Terms, plan: prompt.Plan, row: TurnRow) -> Recorded:
    """Go on with a waiting turn: what the answers leave open is closed (D8)."""
    assert plan.output is not None
    cursor = held.cursor
    turn, message = rows.to_turn(row), plan.output
    resume.take(tx, held, turn, message, plan.answers)
    answers.close_open(message)
    claimant = terms.claimant if terms.embedded(held.row.namespace, turn.agent) else ""
    resume.go_on(tx, held, row, turn, message, queue_wait_us=terms.queue_wait_us, claimant=claimant)
    return Recorded(turn, made=True, cursor=cursor)


def patch_session(tx: Tx, caller: Caller, held: Held, request: _R.ChatRequest) -> None:
    """Apply the request's `session_patch`, as UpdateSession does."""
    if request.HasField("session_patch"):
        mask = request.session_mask if request.HasField("session_mask") else None
        sessions.patch(tx, caller, held, request.session_patch, mask, mask_field="session_mask")


def _same_request(tx: Tx, held: Held, request: _R.ChatRequest) -> turn_pb2.Turn | None:
    if not request.request_id:
        return None
    row = TurnRow.one(tx.db, "session = ? AND request_id = ?", held.id, request.request_id)
    if row is None:
        return None
    if bytes(row.digest) != _digest(request):
        raise Fault(
            reason_pb2.REASON_REQUEST_ID_REUSED, "request_id has other content", turn=names.turn(held.id, row.id)
        )
    return rows.to_turn(row)


def _attachable(tx: Tx, held: Held, request: _R.ChatRequest) -> turn_pb2.Turn | None:
    window = request.attach_window.ToMicroseconds()
    if window <= 0:
        return None
    newest = TurnRow.select().where(TurnRow.session == held.id).order_by(TurnRow.number.desc()).first(tx.db.peewee)
    if newest is None or newest.input_message is None:
        return None
    if newest.end_us is not None and newest.end_us < tx.now_us - window:
        return None
    stored = MessageRow.select().where(MessageRow.id == newest.input_message).first(tx.db.peewee)
    turn = rows.to_turn(newest)
    same = stored is not None and fold.said(rows.to_message(stored)) == fold.said(request.message)
    same = same and all(turn.metadata[key].text == request.metadata[key].text for key in request.attach_metadata)
    return turn if same else None


def _agent(caller: Caller, held: Held, request: _R.ChatRequest, terms: Terms) -> str:
    agent = request.agent or held.session.agent or terms.default_agent
    if caller.agent and agent != caller.agent:
        if request.agent or held.session.agent:
            raise Fault(reason_pb2.REASON_AGENT_FORBIDDEN, "this key belongs to another agent", agent=agent)
        agent = caller.agent
    if request.agent and not request.allow_unknown_agent and not terms.known(held.row.namespace, agent):
        raise Fault(reason_pb2.REASON_AGENT_NOT_FOUND, "no such agent", agent=agent)
    if request.require_servable and not terms.online(held.row.namespace, agent):
        raise Fault(reason_pb2.REASON_AGENT_OFFLINE, "nothing serves the agent now", agent=agent)
    return agent


def _check_limits(tx: Tx, held: Held, caller: Caller, terms: Terms) -> None:
    if caller.token_quota and caller.key_id:
        key = KeyRow.select(KeyRow.tokens_used).where(KeyRow.id == caller.key_id).first(tx.db.peewee)
        if key is not None and key.tokens_used >= caller.token_quota:
            raise Fault(reason_pb2.REASON_QUOTA_EXHAUSTED, "the key's quota of tokens is used up")
    states = ",".join(str(int(state)) for state in rows.OPEN)
    count = tx.db.one(f"SELECT count(*) FROM turn WHERE namespace = ? AND state IN ({states})", str(held.row.namespace))
    if count is not None and count[0] >= terms.per_namespace:
        raise Fault(
            reason_pb2.REASON_TOO_MANY_TURNS,
            "the namespace has as many open turns as it may",
            retry_after=BUSY_RETRY_SECONDS,
            limit=terms.per_namespace,
        )


def _clear_the_way(tx: Tx, held: Held, request: _R.ChatRequest, terms: Terms, plan: prompt.Plan) -> None:
    """Apply the policies to the turns that have not ended; refuse if they say so."""
    found = rows.open_turns(tx.db, held.id)
    waiting = [row for row in found if row.state == _T.STATE_AWAITING_INPUT]
    busy = [row for row in found if row.state != _T.STATE_AWAITING_INPUT]
    if busy:
        _clear_busy(tx, held, request.busy_policy or terms.busy_policy, busy, terms)
    if waiting:
        policy = request.waiting_policy or terms.waiting_policy
        if policy == _R.WAITING_POLICY_SUPERSEDE:
            ending.cancel_open(tx, held, [_T.STATE_AWAITING_INPUT], _T.CAUSE_SUPERSEDED)
            held.tell()
        elif policy != _R.WAITING_POLICY_ENQUEUE:
            raise Fault(
                reason_pb2.REASON_SESSION_WAITING,
                "a turn of the session waits for an answer",
                session=held.name,
                turn=names.turn(held.id, waiting[0].id),
            )
    if plan.remove_from:
        removal.remove(tx, held, plan.remove_from)


def _clear_busy(tx: Tx, held: Held, policy: int, busy: list[TurnRow], terms: Terms) -> None:
    match policy:
        case _R.BUSY_POLICY_ENQUEUE:
            if sum(row.state == _T.STATE_QUEUED for row in busy) >= terms.queued_per_session:
                raise Fault(
                    reason_pb2.REASON_QUEUE_FULL,
                    "the session's queue is full",
                    retry_after=BUSY_RETRY_SECONDS,
                    session=held.name,
                    limit=terms.queued_per_session,
                )
        case _R.BUSY_POLICY_INTERRUPT | _R.BUSY_POLICY_ROLLBACK:
            running = [row for row in busy if row.state == _T.STATE_RUNNING]
            ending.cancel_open(tx, held, [_T.STATE_QUEUED, _T.STATE_RUNNING], _T.CAUSE_SUPERSEDED)
            held.tell()
            if policy == _R.BUSY_POLICY_ROLLBACK and running:
                held.save()
                prompt.roll_back(tx, held, running[0])
        case _:
            raise Fault(
                reason_pb2.REASON_SESSION_BUSY,
                "a turn of the session is queued or runs",
                session=held.name,
                turn=names.turn(held.id, busy[0].id),
            )


def _insert(
    tx: Tx,
    held: Held,
    caller: Caller,
    request: _R.ChatRequest,
    terms: Terms,
    agent: str,
    user: message_pb2.Message | None,
    output: message_pb2.Message,
) -> tuple[turn_pb2.Turn, TurnRow]:
    turn_id = output.turn.rpartition("/")[2]
    turn = _T(
        name=output.turn,
        state=_T.STATE_QUEUED,
        input_message=user.name if user else "",
        output_message=output.name,
        request_id=request.request_id,
        agent=agent,
        model=request.model,
        continuation=request.WhichOneof("input") == "continue_message",
        source=request.source or "grpc",
        metadata=request.metadata,
        creator=caller.principal,
    )
    turn.create_time.FromMicroseconds(tx.now_us)
    turn.queue_deadline.FromMicroseconds(tx.now_us + terms.queue_wait_us)
    row = TurnRow(
        id=turn_id,
        session=held.id,
        namespace=held.row.namespace,
        number=tx.number(),
        state=turn.state,
        attempt=0,
        agent=agent,
        request_id=request.request_id or None,
        digest=_digest(request) if request.request_id else b"",
        input_message=user.name.rpartition("/")[2] if user else None,
        output_message=output.name.rpartition("/")[2],
        deadline_us=tx.lease_now_us() + terms.queue_wait_us,
        first_seq=held.next_seq,
    )
    return turn, row


def _announce(
    tx: Tx,
    held: Held,
    request: _R.ChatRequest,
    turn: turn_pb2.Turn,
    row: TurnRow,
    user: message_pb2.Message | None,
    output: message_pb2.Message,
    terms: Terms,
    *,
    new_user: bool,
) -> None:
    session = held.session
    session.turn_count += 1
    session.last_surface = turn.source
    session.state = session_pb2.Session.STATE_ACTIVE
    if user is not None:
        if new_user:
            held.add(event_pb2.Event(message_created=event_pb2.MessageCreated(message=user)), row.id)
        elif request.on_existing == message_pb2.ON_EXISTING_EDIT:
            held.add(event_pb2.Event(message_updated=event_pb2.MessageUpdated(message=user)), row.id)
        if not session.generated_title and (title := title_of(fold.said(user))):
            session.generated_title = title
            held.touch("generated_title", cause=row.id)
    lease = None
    alone = not session.running_turn and session.queued_turn_count == 0
    if terms.claimant and alone and terms.embedded(held.row.namespace, turn.agent):
        lease = leases.grant(tx, held, row, turn, terms.claimant)
    else:
        session.queued_turn_count += 1
    row.state, row.attempt, row.data = turn.state, turn.attempt, turn.SerializeToString()
    row.add(tx.db)
    held.touch("state", "running_turn", cause=row.id)
    held.tell()
    recorded = event_pb2.TurnRecorded(turn=turn, output_message=output)
    if user is not None:
        recorded.input_message.CopyFrom(user)
    held.add(event_pb2.Event(turn_recorded=recorded), row.id)
    if lease is not None:
        leases.announce(held, row, turn, output)
        leases.hand_over(tx, held, row, lease, turn, user, output)
    else:
        tx.hint("queue", held.id, row.id, turn.agent)


def _digest(request: _R.ChatRequest) -> bytes:
    same = _R.ChatRequest()
    same.CopyFrom(request)
    for field in ("after_cursor", "parent", "session_etag", "require_servable"):
        same.ClearField(field)
    return hashlib.sha256(same.SerializeToString(deterministic=True)).digest()
