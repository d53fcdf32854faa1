"""From outputs to the messages of proto/turnwire/v1/part.proto; pure functions, each of which raises Malformed."""

from turnwire.v1 import part_pb2 as pb
from turnwire.v1.json_pb2 import Json
from turnwire.v1.usage_pb2 import Usage
from turnwired.providers import jsontext
from turnwired.providers.base import Malformed
from turnwired.providers.clean import clean
from turnwired.providers.output import DataOut, FileOut, SourceOut, ToolResult

_COUNTS = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_input_tokens")
# JavaScript's clients hold no larger integer.
_MAX_TOKENS = 2**53


def to_json(text: str) -> Json:
    """A JSON text that was checked."""
    return Json(text=jsontext.storable(clean(text)))


def to_result(output: ToolResult) -> pb.ToolResult:
    """A result, but for what its call knows."""
    if [output.output_json, output.error, output.denied].count(None) != 2:
        raise Malformed("a tool's result is exactly one of output, error and denial")
    result = pb.ToolResult(call_id=clean(output.call_id), preliminary=output.preliminary)
    if output.output_json is not None:
        result.output.CopyFrom(to_json(output.output_json))
    elif output.error is not None:
        result.error = clean(output.error)
    elif output.denied is not None:
        result.denied = clean(output.denied)
    if output.image is not None:
        result.image_attachment.source_id = clean(output.image.source_id)
        result.image_attachment.attachment_name = clean(output.image.attachment_name)
    return result


def to_source(output: SourceOut) -> pb.Source:
    """A source; its id may be empty."""
    source = pb.Source(source_id=clean(output.source_id), title=clean(output.title), filename=clean(output.filename))
    url, media_type = clean(output.url), clean(output.media_type)
    if bool(url) == bool(media_type):
        raise Malformed("a source has either a URL or a media type")
    if url:
        source.url = url
    else:
        source.media_type = media_type
    return source


def to_file(output: FileOut) -> pb.AttachmentRef:
    """A file by reference."""
    file = pb.AttachmentRef(media_type=clean(output.media_type), filename=clean(output.filename))
    url, attachment = clean(output.url), clean(output.attachment)
    if bool(url) == bool(attachment):
        raise Malformed("a file has either a URL or an attachment's name")
    if not file.media_type:
        raise Malformed("a file has no media type")
    if url:
        file.url = url
    else:
        file.attachment = attachment
    return file


def to_data(output: DataOut) -> pb.Data:
    """Data of the application's own."""
    data = pb.Data(name=clean(output.name), data_id=clean(output.data_id), transient=output.transient)
    if not data.name:
        raise Malformed("data has no name")
    data.value.CopyFrom(to_json(output.value_json))
    return data


def total(before: Usage, run: Usage) -> Usage:
    """What both used."""
    both = Usage(counted=before.counted or run.counted)
    for count in _COUNTS:
        tokens = getattr(run, count)
        if not 0 <= tokens <= _MAX_TOKENS:
            raise Malformed("usage is out of range")
        setattr(both, count, min(tokens + getattr(before, count), _MAX_TOKENS))
    return both
