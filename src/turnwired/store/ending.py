"""How a turn ends: the one terminal transaction, whoever writes it (decisions.md, D3)."""

from collections.abc import Collection
from dataclasses import dataclass, field

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from turnwire.v1 import event_pb2, message_pb2, reason_pb2, turn_pb2, usage_pb2
from turnwired import errors
from turnwired.rules import fold, usage
from turnwired.rules.turns import session_state
from turnwired.store import attachment_uses, events, requests, rows
from turnwired.store.schema import MessageRow, TurnRow
from turnwired.store.tx import Held, Tx

_STATE = turn_pb2.Turn


@dataclass(slots=True)
class Ending:
    """How a turn ends, as whoever ends it knows it."""

    state: turn_pb2.Turn.State.ValueType
    cause: turn_pb2.Turn.Cause.ValueType = _STATE.CAUSE_UNSPECIFIED
    error: status_pb2.Status | None = None
    finish_reason: message_pb2.FinishReason.ValueType = message_pb2.FINISH_REASON_UNSPECIFIED
    usage: usage_pb2.Usage | None = None
    running_us: int = -1
    """How long the agent ran since the claim; negative: since `start_time`."""
    message: message_pb2.Message | None = None
    """The fold of everything that the turn said, `tail` included. None: the fold of what is in the log."""
    tail: list[event_pb2.Event] = field(default_factory=list)
    """Events that are not in the log yet."""


def status(reason: reason_pb2.Reason.ValueType, text: str, **facts: str) -> status_pb2.Status:
    """An error as a turn and its message carry it: a code, a public text, and an ErrorInfo with the reason."""
    info = error_details_pb2.ErrorInfo(reason=errors.reason_name(reason), domain=errors.DOMAIN, metadata=facts)
    detail = any_pb2.Any()
    detail.Pack(info)
    return status_pb2.Status(code=errors.CODES[reason].value[0], message=text, details=[detail])


def end(tx: Tx, held: Held, row: TurnRow, ending: Ending) -> turn_pb2.Turn:
    """End a turn that has not ended: write its message and state, free the session, tell followers.

    Events, in order: what is left of the output, `message_created` (or `message_updated` if readers knew the message),
    `turn_ended`, `session_updated`.
    """
    turn = rows.to_turn(row)
    was_running = row.state == _STATE.STATE_RUNNING
    so_far = events.so_far(tx.db, row) if ending.message is None else None
    message = ending.message if so_far is None else so_far.message
    assert message is not None
    for event in ending.tail:
        held.add(event, row.id)
    _close_turn(tx, turn, row, ending, message)
    turn.duration.FromMicroseconds(turn.duration.ToMicroseconds() + _ran_us(tx, row, turn, ending, so_far))
    used = ending.usage if ending.usage is not None else _used(tx, row, turn, so_far)
    if used is not None:
        turn.usage.CopyFrom(used)
    final = fold.finish(message, turn)
    attachment_uses.settle(tx, held, final)
    published_before = message.seq > 0
    if published_before and (stored := MessageRow.one(tx.db, "id = ?", row.output_message)):
        account(held, rows.to_message(stored), -1)
    rows.publish(tx, held, final)
    account(held, final, +1)
    rows.update_message(tx, final)
    if published_before:
        held.session.message_epoch += 1
        held.add(event_pb2.Event(message_updated=event_pb2.MessageUpdated(message=final)), row.id)
    else:
        held.add(event_pb2.Event(message_created=event_pb2.MessageCreated(message=final)), row.id)
    row.last_seq = held.add(event_pb2.Event(turn_ended=event_pb2.TurnEnded(turn=turn)), row.id)
    rows.update_turn(tx, row, turn)
    release(tx, held, row, turn)
    _total(tx, held, turn, new_message=not published_before)
    held.touch("stored_totals", "lifetime_totals", cause=row.id)
    if was_running and ending.state in (_STATE.STATE_CANCELLED, _STATE.STATE_INTERRUPTED):
        tx.hint("fence", held.id, row.id)
    return turn


def cancel_open(
    tx: Tx,
    held: Held,
    states: Collection[int],
    cause: turn_pb2.Turn.Cause.ValueType,
    *,
    only: Collection[str] | None = None,
) -> list[turn_pb2.Turn]:
    """Cancel a session's turns in some states, newest first: none is claimed in between. `only`: of these ids."""
    ended = []
    for row in reversed(rows.open_turns(tx.db, held.id)):
        if row.state not in states or (only is not None and row.id not in only):
            continue
        text = _CANCEL_TEXTS.get(cause, "the turn was cancelled")
        error = status(reason_pb2.REASON_CANCELLED, text)
        ended.append(end(tx, held, row, Ending(_STATE.STATE_CANCELLED, cause, error)))
    return ended


_CANCEL_TEXTS = {
    _STATE.CAUSE_SUPERSEDED: "a newer turn took its place",
    _STATE.CAUSE_DELETED: "the session was deleted",
    _STATE.CAUSE_ARCHIVED: "the session was archived",
    _STATE.CAUSE_TRUNCATED: "its messages were removed",
}


def release(tx: Tx, held: Held, row: TurnRow, turn: turn_pb2.Turn) -> None:
    """Free what the turn held of its session, and have the next queued one claimed."""
    session = held.session
    if held.row.fence_turn == row.id:
        held.row.fence_turn, held.row.fence_attempt = None, 0
    if session.running_turn == turn.name:
        session.running_turn, session.waiting = "", False
        if requests.settle(session):
            held.touch("pending_requests")
    queue = session.queued_turn_count > 0
    left = [one for one in rows.open_turns(tx.db, held.id) if one.id != row.id] if queue or session.running_turn else []
    session.queued_turn_count = sum(one.state == _STATE.STATE_QUEUED for one in left)
    busy = any(one.state in (_STATE.STATE_QUEUED, _STATE.STATE_RUNNING) for one in left)
    session.state = session_state(turn.state, turn.wait_kind, others_busy=busy)
    summary = session.last_turn
    summary.Clear()
    summary.turn, summary.state = turn.name, _STATE.State.Name(turn.state)
    summary.duration.CopyFrom(turn.duration)
    if turn.HasField("error"):
        summary.error.CopyFrom(turn.error)
    summary.usage.CopyFrom(turn.usage)
    summary.steps = turn.steps
    summary.end_time.CopyFrom(turn.end_time)
    held.touch("state", "running_turn", "last_turn", cause=row.id)
    if session.queued_turn_count and not any(one.state in rows.SLOT for one in left):
        first = next(one for one in left if one.state == _STATE.STATE_QUEUED)
        tx.hint("queue", held.id, first.id, first.agent)


def account(held: Held, message: message_pb2.Message, sign: int) -> None:
    """Add a final message to the session's stored totals, or take it out."""
    totals = held.session.stored_totals
    totals.messages += sign
    totals.message_tokens += sign * message.token_count
    totals.input_tokens += sign * message.usage.input_tokens
    totals.output_tokens += sign * message.usage.output_tokens
    if message.HasField("response_time"):
        totals.turns += sign
        us = totals.duration.ToMicroseconds() + sign * message.response_time.ToMicroseconds()
        totals.duration.FromMicroseconds(us)


def _close_turn(tx: Tx, turn: turn_pb2.Turn, row: TurnRow, ending: Ending, message: message_pb2.Message) -> None:
    turn.state, turn.cause = ending.state, ending.cause
    turn.wait_kind = turn_pb2.WAIT_KIND_UNSPECIFIED
    turn.ClearField("queue_deadline")
    turn.ClearField("wait_time")
    turn.end_time.FromMicroseconds(max(tx.now_us, turn.create_time.ToMicroseconds()))
    if ending.error is not None:
        turn.error.CopyFrom(ending.error)
    turn.finish_reason = ending.finish_reason
    if ending.finish_reason == message_pb2.FINISH_REASON_UNSPECIFIED:
        bad = ending.state in (_STATE.STATE_FAILED, _STATE.STATE_INTERRUPTED)
        turn.finish_reason = message_pb2.FINISH_REASON_ERROR if bad else message_pb2.FINISH_REASON_OTHER
    turn.steps = message.steps
    row.owner, row.lease_us, row.deadline_us = None, None, None
    row.end_us = turn.end_time.ToMicroseconds()


def _ran_us(tx: Tx, row: TurnRow, turn: turn_pb2.Turn, ending: Ending, so_far: events.SoFar | None) -> int:
    """How long the agent ran since its last claim. Whoever ends another process's turn has the log to tell."""
    if ending.running_us >= 0:
        return ending.running_us
    if row.state != _STATE.STATE_RUNNING:
        return 0
    begun_us = so_far.begun_us if so_far is not None else None
    if begun_us is None:
        begun_us = turn.start_time.ToMicroseconds() if turn.HasField("start_time") else tx.now_us
    return max(0, tx.now_us - begun_us)


def _used(tx: Tx, row: TurnRow, turn: turn_pb2.Turn, so_far: events.SoFar | None) -> usage_pb2.Usage | None:
    """What a turn used whose end does not tell: what the log has, else the words counted. None: `turn` has it."""
    if so_far is None:
        return None
    if so_far.usage is not None:
        return so_far.usage
    used = turn.usage if turn.HasField("usage") else None
    asked = None
    if used is None and row.attempt and row.input_message:
        found = MessageRow.one(tx.db, "id = ?", row.input_message)
        asked = rows.to_message(found) if found is not None else None
    return usage.counted(used, asked, so_far.base, so_far.message)


def _total(tx: Tx, held: Held, turn: turn_pb2.Turn, *, new_message: bool) -> None:
    ever = held.session.lifetime_totals
    ever.turns += 1
    ever.messages += new_message
    ever.input_tokens += turn.usage.input_tokens
    ever.output_tokens += turn.usage.output_tokens
    ever.message_tokens += turn.usage.output_tokens
    ever.duration.FromMicroseconds(ever.duration.ToMicroseconds() + turn.duration.ToMicroseconds())
    if turn.creator.startswith("keys/"):
        tx.spent[turn.creator.removeprefix("keys/")] += turn.usage.input_tokens + turn.usage.output_tokens
