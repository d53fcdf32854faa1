"""Bodies and queries, judged strictly. Source: contracts/llamacloud.md, sections 4 to 8."""

from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request

from turnwired.config.dialects import LlamaCloud
from turnwired.dialects.llamacloud.wire import Refused
from turnwired.web.body import BodyReader
from turnwired.web.jsonin import BodyError, Json, Kind, Policy
from turnwired.web.site import site
from turnwired.web.validation import Invalid, judged, rows_of, storable, unread, value_error

M = TypeVar("M", bound=BaseModel)

MAX_INDEXES: Final = 10
DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 100

# What is stored is looked at field by field: a key that nobody reads may hold anything.
_POLICY: Final = Policy(storable=False)
_PAGE_SIZE: Final = TypeAdapter(Annotated[int, Field(ge=1)])
_NOT_TAKEN: Final = frozenset({Kind.TOO_LARGE, Kind.TOO_SLOW, Kind.BROKEN_OFF})


def _stored(text: str) -> str:
    if not storable(text):
        raise ValueError("the text holds U+0000")
    return text


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is blank")
    return text


IndexId = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_stored)]
IndexIds = Annotated[list[IndexId], Field(max_length=MAX_INDEXES)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class CreateBody(_Body):
    """The body of POST /api/v1/chat."""

    index_ids: IndexIds | None = None
    shared_access: Literal["query", "read_only"] | None = None


class TitleBody(_Body):
    """The body of POST .../title."""

    first_message: Annotated[
        str, Field(min_length=1, max_length=100_000), AfterValidator(_stored), AfterValidator(_said)
    ]


class StreamBody(_Body):
    """The body of POST .../messages/stream."""

    prompt: Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_stored), AfterValidator(_said)]
    index_ids: IndexIds
    require_all_indexes: bool = False


async def body_of(request: Request, model: type[M], *, empty: bool = False) -> M:
    """The request's body; with `empty`, none at all is an object without keys. Raises Invalid, BodyError."""
    here = site(request)
    reader = BodyReader(here.clock, here.settings.llamacloud.max_body_bytes, _POLICY)
    try:
        value = await reader.json(request)
    except BodyError as error:
        if error.kind in _NOT_TAKEN:
            raise
        if error.kind is not Kind.EMPTY or not empty:
            raise unread(error) from error
        nothing: dict[str, Json] = {}
        value = nothing
    return judged(model, value)


def page_size(text: str | None) -> int:
    """The query parameter `page_size`, at most 100. Raises Invalid."""
    if text is None:
        return DEFAULT_PAGE
    try:
        return min(_PAGE_SIZE.validate_python(text), MAX_PAGE)
    except ValidationError as error:
        raise Invalid(rows_of(error, "query", "page_size")) from error


def stored_query(request: Request, name: str) -> str:
    """A query parameter that is to be kept; empty if there is none. Raises Invalid."""
    text = request.query_params.get(name, "")
    if not storable(text):
        raise Invalid([value_error(["query", name], "the text holds U+0000", text)])
    return text


def known_indexes(ids: list[str], settings: LlamaCloud) -> tuple[list[str], list[str]]:
    """Without duplicates: the ids that the settings let in, and the others, each in the order given."""
    allowed = settings.allowed_index_ids
    once = list(dict.fromkeys(ids))
    if allowed is None:
        return once, []
    return [one for one in once if one in allowed], [one for one in once if one not in allowed]


def refused_indexes(ids: list[str]) -> Refused:
    """The refusal of index ids that the settings do not let in."""
    return Refused("Unknown index: " + ", ".join(ids))
