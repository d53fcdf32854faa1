"""Answers to a waiting turn: taken once, by whatever surface, and when nothing is owed any more the turn goes on."""

from collections.abc import Callable, Sequence

from turnwire.v1 import event_pb2, message_pb2, reason_pb2, session_pb2, turn_pb2
from turnwire.v1.part_pb2 import Approval, ToolCall
from turnwire.v1.turn_service_pb2 import Answer, ResumeTurnRequest, ResumeTurnResponse
from turnwired.errors import Fault
from turnwired.rules import answers, names
from turnwired.rules.caller import Caller
from turnwired.store import leases, requests, rows
from turnwired.store.schema import MessageRow, TurnRow
from turnwired.store.tx import Held, Tx

_T = turn_pb2.Turn
_PEER = "peer"


def resume(
    tx: Tx,
    caller: Caller,
    request: ResumeTurnRequest,
    queue_wait_us: int,
    claimant: str,
    embedded: Callable[[str, str], bool] | None = None,
    trace: str = "",
) -> ResumeTurnResponse:
    """Take answers, all or none. The turn stays AWAITING_INPUT while something is still owed, else it is claimed at
    once or queued before all others. `claimant` claims only what is `embedded` in it, by namespace and agent.
    `trace` is the call's `traceparent`.

    Raises SESSION_NOT_FOUND, TURN_NOT_FOUND, TURN_NOT_WAITING, APPROVAL_NOT_FOUND, APPROVAL_ALREADY_ANSWERED,
    APPROVAL_MISMATCH.
    """
    ref = names.parse_turn(request.name)
    held = rows.hold_session(tx, caller, ref.session.name)
    row = _waiting(tx, held, ref)
    message = stored_output(tx, row)
    turn = rows.to_turn(row)
    for answer in request.answers:
        _check(message, turn, answer)
    cursor = held.cursor
    take(tx, held, turn, message, request.answers)
    if any(not one.HasField("decide_time") for one in held.session.pending_requests):
        message.update_time.FromMicroseconds(tx.now_us)
        rows.update_message(tx, message)
        held.touch("pending_requests", cause=row.id)
        return ResumeTurnResponse(turn=turn, cursor=cursor)
    if embedded is not None and not embedded(held.row.namespace, turn.agent):
        claimant = ""
    row.trace = trace or row.trace
    go_on(tx, held, row, turn, message, queue_wait_us=queue_wait_us, claimant=claimant)
    return ResumeTurnResponse(turn=turn, cursor=cursor)


def take(tx: Tx, held: Held, turn: _T, message: message_pb2.Message, given: Sequence[Answer]) -> None:
    """Merge answers into a waiting turn's message and note them on its session's list of what is asked for."""
    answers.merge(message, given, tx.now_us)
    for answer in given:
        asked = _id_of(answer)
        for pending in held.session.pending_requests:
            if pending.request_id == asked:
                pending.decide_time.FromMicroseconds(tx.now_us)
                pending.approved = answer.approval.approved
                pending.reason = answer.approval.reason
        if answer.WhichOneof("kind") == "peer":
            # The agent is run anew and finds what the peer said here.
            turn.metadata[_PEER].text = answer.peer.text or "null"
    held.session.pending_request_count = sum(
        not pending.HasField("decide_time") for pending in held.session.pending_requests
    )


def go_on(
    tx: Tx,
    held: Held,
    row: TurnRow,
    turn: _T,
    message: message_pb2.Message,
    *,
    queue_wait_us: int,
    claimant: str,
) -> None:
    """Have a waiting turn run again, on its message as it is now."""
    session = held.session
    turn.state, turn.wait_kind = _T.STATE_QUEUED, turn_pb2.WAIT_KIND_UNSPECIFIED
    turn.ClearField("wait_time")
    turn.finish_reason = message_pb2.FINISH_REASON_UNSPECIFIED
    turn.queue_deadline.FromMicroseconds(tx.now_us + queue_wait_us)
    message.state = message_pb2.Message.STATE_IN_PROGRESS
    message.finish_reason = message_pb2.FINISH_REASON_UNSPECIFIED
    message.update_time.FromMicroseconds(tx.now_us)
    rows.update_message(tx, message)
    row.deadline_us = tx.lease_now_us() + queue_wait_us
    session.waiting, session.running_turn = False, ""
    session.state = session_pb2.Session.STATE_ACTIVE
    requests.settle(session)
    resumed = event_pb2.TurnResumed(turn=turn, message=message)
    held.add(event_pb2.Event(turn_resumed=resumed), row.id)
    held.touch("state", "pending_requests", "running_turn", cause=row.id)
    if claimant:
        lease = leases.take(tx, held, row, turn, claimant)
        held.tell()
        leases.announce(held, row, turn, message)
        leases.hand_over(tx, held, row, lease, turn, _input(tx, row), message)
        return
    rows.update_turn(tx, row, turn)
    session.queued_turn_count += 1
    tx.hint("queue", held.id, row.id, row.agent)


def stored_output(tx: Tx, row: TurnRow) -> message_pb2.Message:
    """The message that a turn writes, as it is stored."""
    found = MessageRow.one(tx.db, "id = ?", row.output_message)
    if found is None:
        raise Fault(reason_pb2.REASON_TURN_NOT_WAITING, "the turn's message is gone")
    return rows.to_message(found)


def _waiting(tx: Tx, held: Held, ref: names.TurnRef) -> TurnRow:
    row = rows.find_turn(tx.db, held.id, ref)
    if row.state != _T.STATE_AWAITING_INPUT:
        raise Fault(
            reason_pb2.REASON_TURN_NOT_WAITING, "the turn does not wait for an answer", turn=names.turn(held.id, row.id)
        )
    return row


def _input(tx: Tx, row: TurnRow) -> message_pb2.Message | None:
    found = MessageRow.one(tx.db, "id = ?", row.input_message) if row.input_message else None
    return rows.to_message(found) if found else None


def _id_of(answer: Answer) -> str:
    match answer.WhichOneof("kind"):
        case "approval":
            return answer.approval.approval_id
        case "tool_result":
            return answer.tool_result.call_id
        case _:
            return _PEER


def _check(message: message_pb2.Message, turn: _T, answer: Answer) -> None:
    asked = _id_of(answer)
    match answer.WhichOneof("kind"):
        case "approval":
            found = [part.approval for part in message.parts if part.approval.approval_id == asked != ""]
            if not found:
                raise _refusal(reason_pb2.REASON_APPROVAL_NOT_FOUND, "the server asked for no such approval", asked)
            if found[0].state != Approval.STATE_REQUESTED:
                raise _refusal(reason_pb2.REASON_APPROVAL_ALREADY_ANSWERED, "the approval was answered before", asked)
        case "tool_result":
            calls = [part.tool_call for part in message.parts if part.tool_call.call_id == asked != ""]
            if not calls:
                raise _refusal(reason_pb2.REASON_APPROVAL_NOT_FOUND, "there is no such tool call", asked)
            if calls[0].state == ToolCall.STATE_AWAITING_APPROVAL:
                raise _refusal(reason_pb2.REASON_APPROVAL_MISMATCH, "the call waits for an approval", asked)
            if calls[0].state != ToolCall.STATE_AWAITING_RESULT:
                raise _refusal(reason_pb2.REASON_APPROVAL_ALREADY_ANSWERED, "the call has its result", asked)
        case "peer":
            if turn.wait_kind != turn_pb2.WAIT_KIND_PEER:
                raise _refusal(reason_pb2.REASON_APPROVAL_MISMATCH, "the turn does not wait for a peer", asked)
        case _:
            raise Fault(reason_pb2.REASON_FIELD_MISSING, "an answer has no kind", field="answers.kind")


def _refusal(reason: reason_pb2.Reason.ValueType, text: str, asked: str) -> Fault:
    return Fault(reason, text, approval=asked)
