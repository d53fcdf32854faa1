"""What clients may read of a failure at the model's provider: texts of our own, without URLs, keys or prompts."""

from pydantic_ai import exceptions

from turnwire.v1 import reason_pb2
from turnwired.providers.base import AgentError

# The first that fits: special ones come before what they are special cases of.
_TEXTS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.ModelRateLimitError, "The model's provider takes no more requests for now; try again later."),
    (exceptions.ModelAuthenticationError, "The model's provider refused the server's credentials."),
    (exceptions.ModelNotFoundError, "The model's provider does not have the model."),
    (exceptions.ModelContextWindowExceededError, "The conversation is longer than the model can take."),
    (exceptions.ModelOverloadedError, "The model's provider is overloaded; try again later."),
    (exceptions.ModelTimeoutError, "The model's provider did not answer in time."),
    (exceptions.ModelConnectionError, "The model's provider could not be reached."),
    (exceptions.ModelUnavailableError, "The model's provider is unavailable; try again later."),
    (exceptions.ModelServerError, "The model's provider failed."),
    (exceptions.ModelRequestRejectedError, "The model's provider refused the request."),
    (exceptions.ContentFilterError, "The model's provider filtered the content."),
    (exceptions.UsageLimitExceeded, "The turn needed more requests to the model than it may make."),
    (exceptions.UnexpectedModelBehavior, "The model gave no answer that could be used."),
    (exceptions.ModelAPIError, "The request to the model failed."),
)


def public(error: Exception) -> AgentError | None:
    """The error to raise instead; None for one that is no model's, of which clients may read nothing."""
    if isinstance(error, exceptions.ModelQuotaExceededError):
        return AgentError("The credit at the model's provider is used up.", reason_pb2.REASON_QUOTA_EXHAUSTED)
    if isinstance(error, exceptions.ModelHTTPError) and error.status_code == 402:
        return AgentError("The credit at the model's provider is used up.", reason_pb2.REASON_QUOTA_EXHAUSTED)
    return next((AgentError(text) for kind, text in _TEXTS if isinstance(error, kind)), None)
