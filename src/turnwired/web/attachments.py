"""The two plain routes by which bytes go up and down, and their answers, which look like the gateway's.

`POST /v1/sessions/{session}/attachments` takes a file: as the body itself, or as the part `file` of a multipart form.
`GET /v1/sessions/{session}/attachments/{attachment}:download` gives one, or a range of it.
Source: design.md, section 6.
"""

import logging
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast
from urllib.parse import quote, unquote

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from turnwire.v1.attachment_pb2 import Attachment
from turnwired.protojson.marshal import Marshaller
from turnwired.protojson.types import Types
from turnwired.web import downloads, forms, uploads
from turnwired.web.calls import DOMAIN, Caller, Refusal
from turnwired.web.forms import FormError
from turnwired.web.jsonin import BodyError, Kind
from turnwired.web.mount import ROUTE
from turnwired.web.site import Site
from turnwired.web.uploads import Body

log = logging.getLogger(__name__)

UPLOAD: Final = "/v1/sessions/{session}/attachments"
DOWNLOAD: Final = "/v1/sessions/{session}/attachments/{attachment}:download"

_PATH: Final = re.compile(rb"/v1/sessions/([^/]+)/attachments(?:/([^/]+):download)?")
_METADATA: Final = "grpc-metadata-"
_KEY: Final = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_BY_REASON: Final = {"ATTACHMENT_TOO_LARGE": 413, "MEDIA_TYPE_REFUSED": 415, "RANGE_UNSATISFIABLE": 416}
_BY_CODE: Final = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
_BY_KIND: Final = {Kind.TOO_LARGE: (413, grpc.StatusCode.INVALID_ARGUMENT)}
_MARSHALLER: Final = Marshaller(Types(descriptor_pool.Default()))
_SLOW: Final = (408, grpc.StatusCode.DEADLINE_EXCEEDED)


class Attachments:
    """An ASGI application: it answers its two routes, and leaves all else to the one behind it."""

    def __init__(self, here: Site, behind: ASGIApp) -> None:
        self._site = here
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _PATH.fullmatch(_raw_path(scope)) if scope["type"] == "http" else None
        method = scope.get("method", "")
        if match is None or method not in (("GET", "HEAD") if match[2] else ("POST",)):
            await self._behind(scope, receive, send)
            return
        session, attachment = (unquote(text.decode("latin-1")) for text in (match[1], match[2] or b""))
        scope[ROUTE] = DOWNLOAD if match[2] else UPLOAD
        request = Request(scope, receive)
        name = f"sessions/{session}"
        response = await (
            self._give(request, f"{name}/attachments/{attachment}") if match[2] else self._take(request, name)
        )
        if response is not None:
            await response(scope, receive, send)

    async def _take(self, request: Request, parent: str) -> Response | None:
        body = Body(request, self._site.clock, self._site.settings.limits.upload_pause)
        try:
            file = await forms.part(request, body) if forms.is_form(request) else uploads.raw(request, body)
            attachment = _described(request, file)
            made = await uploads.store(self._caller(request), self._site.stubs, parent, attachment, file)
        except (Refusal, BodyError, FormError) as error:
            if isinstance(error, BodyError) and error.kind is Kind.BROKEN_OFF:
                return None
            # What still comes of the body is dropped as it arrives: who is cut off while he sends may never see why.
            # Only one who is silent is cut off.
            silent = isinstance(error, BodyError) and error.kind is Kind.TOO_SLOW
            silent = silent or (isinstance(error, Refusal) and error.code is grpc.StatusCode.DEADLINE_EXCEEDED)
            return _refused(error, {"connection": "close"}) if silent else _refused(error)
        return _json(made)

    async def _give(self, request: Request, name: str) -> Response:
        try:
            return await downloads.download(request, self._site, self._caller(request), name, _saved)
        except Refusal as refusal:
            unsatisfiable = refusal.reason == "RANGE_UNSATISFIABLE"
            return _refused(refusal, downloads.unsatisfiable(refusal)) if unsatisfiable else _refused(refusal)

    def _caller(self, request: Request) -> Caller:
        extra = [
            (key, value)
            for name, value in request.headers.items()
            if name.startswith(_METADATA) and _KEY.fullmatch(key := name.removeprefix(_METADATA))
        ]
        return Caller.of(request.headers, extra, self._site.unary_seconds)


def _saved(attachment: Attachment) -> dict[str, str]:
    return {"content-disposition": downloads.saved_as(attachment.filename)}


def _described(request: Request, file: uploads.Incoming) -> Attachment:
    query = request.query_params
    attachment = Attachment(
        media_type=file.media_type,
        filename=query.get("filename", file.filename or ""),
        message=query.get("message", ""),
        slot=query.get("slot", ""),
    )
    if record := query.get("client_record", query.get("clientRecord", "")):
        attachment.client_record.text = record
    return attachment


def _refused(error: Refusal | BodyError | FormError, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    if not isinstance(error, Refusal):
        status, code = 400, grpc.StatusCode.INVALID_ARGUMENT
        if isinstance(error, BodyError):
            status, code = _SLOW if error.kind is Kind.TOO_SLOW else _BY_KIND.get(error.kind, (status, code))
        return _json(status_pb2.Status(code=code.value[0], message=error.text), status, headers)
    number = error.code.value[0]
    shown = status_pb2.Status(code=number, message=error.text)
    shown.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.facts))
    )
    if error.retry_delay is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMicroseconds(round(error.retry_delay * 1_000_000))
        shown.details.add().Pack(retry)
    if field := error.facts.get("field"):
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=error.text)
        shown.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    lines = {"www-authenticate": quote(error.text, safe=" :;,=\"'()/")} if number == 16 else {}
    status = _BY_REASON.get(error.reason, _BY_CODE[number])
    return _json(shown, status, {**lines, **headers})


def _json(message: Message, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = _MARSHALLER.message(cast("Descriptor", message.DESCRIPTOR))(message)
    return Response(text.encode(), status, headers, "application/json")


def _raw_path(scope: Scope) -> bytes:
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return path.removeprefix(quote(scope.get("root_path", "")).encode())
