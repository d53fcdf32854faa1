"""What a new turn answers: which message is appended, edited or kept, which are removed, which is gone on with."""

from dataclasses import dataclass, field

from turnwire.v1 import message_pb2, reason_pb2, turn_pb2, turn_service_pb2
from turnwired.errors import Fault
from turnwired.rules import answers, given, names
from turnwired.store import attachment_uses, ending, messages, removal, rows
from turnwired.store.schema import MessageRow, TurnRow
from turnwired.store.tx import Held, Tx

_M = message_pb2.Message


@dataclass(slots=True)
class Plan:
    """What is to be written. Made before anything is, so that a refusal leaves nothing."""

    user: _M | None = None
    """The message that the turn answers: new, edited or kept. None: the history as it is."""
    new_user: bool = False
    edit: bool = False
    remove_from: int = 0
    """Every message from this number on is removed. 0: none is."""
    output: _M | None = None
    """The message that is gone on with. None: a new one."""
    answers: list[turn_service_pb2.Answer] = field(default_factory=list)
    resume: TurnRow | None = None
    """The waiting turn that writes `output`: it goes on, instead of a new one being made."""
    attach: turn_pb2.Turn | None = None
    """The turn that the message began before: nothing is written."""


def plan(tx: Tx, held: Held, request: turn_service_pb2.ChatRequest) -> Plan:
    """Decide what the request's input means for the session as it is.

    Raises MESSAGE_NOT_FOUND, MESSAGE_ROLE_CONFLICT, NOT_CONTINUABLE, CLIENT_ID_TAKEN.
    """
    match request.WhichOneof("input"):
        case "message":
            return _message(tx, held, request)
        case "regenerate_from":
            ref = names.parse_message(request.regenerate_from, "regenerate_from")
            row = rows.find_message(tx.db, held.id, ref)
            _must_be_user(row, "regenerate_from")
            return Plan(user=rows.to_message(row), remove_from=row.number + 1)
        case "continue_message":
            return _continue(tx, held, request.continue_message)
        case _:
            return Plan(user=_newest_user(tx, held))


def write(tx: Tx, held: Held, request: turn_service_pb2.ChatRequest, plan: Plan) -> tuple[_M | None, _M]:
    """Write the plan's messages, and give the one to answer and the one that the turn writes."""
    turn_name = names.turn(held.id, tx.ids.uuid())
    user = plan.user
    if user is not None and plan.new_user:
        user = _append(tx, held, request, turn_name)
    elif user is not None and plan.edit:
        _edit(tx, held, user, request.message)
    if plan.output is not None:
        return user, _go_on(tx, plan, turn_name)
    output = _M(role=message_pb2.ROLE_ASSISTANT, state=_M.STATE_IN_PROGRESS, source="agent")
    output.turn = turn_name
    messages.number_message(tx, held, output)
    rows.insert_message(tx, held, output)
    return user, output


def _append(tx: Tx, held: Held, request: turn_service_pb2.ChatRequest, turn_name: str) -> _M:
    said = request.message
    user = _M(role=message_pb2.ROLE_USER, state=_M.STATE_COMPLETE, client_id=said.client_id, turn=turn_name)
    user.source = request.source or said.source or "grpc"
    messages.compose(user, said)
    attachment_uses.resolve(tx, held, user)
    messages.number_message(tx, held, user)
    rows.publish(tx, held, user)
    rows.insert_message(tx, held, user)
    attachment_uses.note(tx, held, user)
    messages.count_new(held, user)
    return user


def roll_back(tx: Tx, held: Held, turn: TurnRow) -> None:
    """Drop what a turn said: its message goes, its user message stays (D9)."""
    row = MessageRow.select().where(MessageRow.id == turn.output_message).first(tx.db.peewee)
    if row is not None:
        epoch = held.session.message_epoch
        removal.remove(tx, held, row.number)
        # It was never final before this transaction, so nobody has it under its seq.
        held.session.message_epoch = epoch


def _message(tx: Tx, held: Held, request: turn_service_pb2.ChatRequest) -> Plan:
    given.check(request.message)
    existing = messages.find_client_id(tx.db, held.id, request.message.client_id)
    if existing is None:
        return Plan(user=request.message, new_user=True)
    if existing.role != message_pb2.ROLE_USER:
        raise Fault(
            reason_pb2.REASON_MESSAGE_ROLE_CONFLICT,
            "the id is that of a message of another role",
            field="message.client_id",
            message=f"{held.name}/messages/{existing.id}",
        )
    stored = rows.to_message(existing)
    match request.on_existing:
        case message_pb2.ON_EXISTING_EDIT:
            return Plan(user=stored, edit=True, remove_from=existing.number + 1)
        case message_pb2.ON_EXISTING_REGENERATE:
            return Plan(user=stored, remove_from=existing.number + 1)
        case message_pb2.ON_EXISTING_FAIL:
            raise _taken(stored)
        case _:
            began = TurnRow.select().where(TurnRow.input_message == existing.id).order_by(TurnRow.number)
            turn = began.first(tx.db.peewee)
            if turn is None:
                # It was appended outside any turn: there is nothing to attach to.
                raise _taken(stored)
            return Plan(attach=rows.to_turn(turn))


def _taken(stored: _M) -> Fault:
    return Fault(reason_pb2.REASON_CLIENT_ID_TAKEN, "a message with this client_id is there", message=stored.name)


def _must_be_user(row: MessageRow, field_name: str) -> None:
    if row.role != message_pb2.ROLE_USER:
        raise Fault(reason_pb2.REASON_MESSAGE_ROLE_CONFLICT, f"{field_name} must be a user message", field=field_name)


def _continue(tx: Tx, held: Held, request: turn_service_pb2.ChatRequest.Continue) -> Plan:
    field_name = "continue_message.message"
    ref = names.parse_message(request.message, field_name)

    def refusal(text: str) -> Fault:
        return Fault(reason_pb2.REASON_NOT_CONTINUABLE, text, field=field_name, message=request.message)

    try:
        row = rows.find_message(tx.db, held.id, ref)
    except Fault as fault:
        raise refusal("there is no such message to go on with") from fault
    if row.role != message_pb2.ROLE_ASSISTANT:
        raise refusal("only an assistant message can be gone on with")
    stored = rows.to_message(row)
    later = MessageRow.select(MessageRow.id).where(
        (MessageRow.session == held.id) & (MessageRow.number > row.number) & (MessageRow.role == row.role)
    )
    if later.first(tx.db.peewee) is not None:
        raise refusal("only the newest assistant message can be gone on with")
    user = (
        MessageRow.select()
        .where(
            (MessageRow.session == held.id)
            & (MessageRow.number < row.number)
            & (MessageRow.role == message_pb2.ROLE_USER)
        )
        .order_by(MessageRow.number.desc())
        .first(tx.db.peewee)
    )
    waiting = TurnRow.one(
        tx.db,
        "session = ? AND state = ? AND output_message = ?",
        held.id,
        int(turn_pb2.Turn.STATE_AWAITING_INPUT),
        row.id,
    )
    asked = rows.to_message(user) if user else None
    return Plan(user=asked, output=stored, answers=list(request.answers), resume=waiting)


def _newest_user(tx: Tx, held: Held) -> _M | None:
    query = MessageRow.select().where((MessageRow.session == held.id) & (MessageRow.role == message_pb2.ROLE_USER))
    row = query.order_by(MessageRow.number.desc()).first(tx.db.peewee)
    return rows.to_message(row) if row else None


def _edit(tx: Tx, held: Held, stored: _M, new: _M) -> None:
    ending.account(held, stored, -1)
    row = MessageRow.one(tx.db, "id = ?", names.parse_message(stored.name).uuid)
    assert row is not None
    removal.blank(tx, held, [row])
    messages.compose(stored, new)
    attachment_uses.resolve(tx, held, stored)
    rows.publish(tx, held, stored)
    held.session.message_epoch += 1
    rows.update_message(tx, stored)
    attachment_uses.release(tx, [row.id])
    attachment_uses.note(tx, held, stored)
    ending.account(held, stored, +1)


def _go_on(tx: Tx, plan: Plan, turn_name: str) -> _M:
    output = plan.output
    assert output is not None
    answers.merge(output, plan.answers, tx.now_us)
    answers.close_open(output)
    output.turn = turn_name
    output.state = _M.STATE_IN_PROGRESS
    output.update_time.FromMicroseconds(tx.now_us)
    rows.update_message(tx, output)
    return output
