"""The tree of errors. Each error has a code that clients can rely on, and an HTTP status.

Only :mod:`firelaunch.server.app` turns the errors of routes into ``{"error": {"code", "message", "request_id"}}``.
``message`` is for the client. ``reason`` is only for the log, and may contain facts that a stranger should not learn.
"""

from __future__ import annotations

__all__ = [
    "AlreadyExists",
    "AnswerFiltered",
    "AnswerWithheld",
    "AppBudgetExceeded",
    "BadRequest",
    "BudgetExceeded",
    "Conflict",
    "ContentRefused",
    "Contention",
    "CreditExceeded",
    "DocumentUnreadable",
    "EmptyAnswer",
    "ExtractionFailed",
    "FeatureMissing",
    "Fenced",
    "FetchRefused",
    "FileNotTaken",
    "FirelaunchError",
    "Forbidden",
    "IdempotencyMismatch",
    "IndexFailed",
    "IndexUnavailable",
    "Interrupted",
    "InvalidCursor",
    "InvalidId",
    "InvalidSchema",
    "JobsUnavailable",
    "ModelError",
    "ModelRefused",
    "ModelTimeout",
    "ModelUnavailable",
    "NoGroupChats",
    "NoUploadRoom",
    "NotFound",
    "OutputLimitReached",
    "OutsideTransaction",
    "Overloaded",
    "PreconditionFailed",
    "RateLimited",
    "RecordUnreadable",
    "RequestInProgress",
    "ScopeViolation",
    "SettingsError",
    "StoreError",
    "StoreUnavailable",
    "TooLarge",
    "TooMany",
    "TooManyUploads",
    "ToolLimitReached",
    "Unauthenticated",
    "error_of",
    "size_text",
]


class FirelaunchError(Exception):
    """The root of the tree.

    Args:
        message: the text for the client; the class's own ``message`` if left out.
        reason: the text for the log in addition. Clients never see it.
        retry_after: seconds after which the same request may succeed, sent as ``Retry-After`` (rounded up).
    """

    code = "internal"
    status = 500
    message = "Something went wrong on our side. Try again; if it goes on, quote the request id."

    def __init__(
        self, message: str | None = None, *, reason: str | None = None, retry_after: float | None = None
    ) -> None:
        self.message = message or type(self).message
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(self.message if reason is None else f"{self.message} ({reason})")

    @property
    def for_client(self) -> tuple[str, str]:
        """The code and message that clients see."""
        return self.code, self.message


class SettingsError(FirelaunchError):
    """A setting is missing, misspelt or not allowed here. It is raised at boot, and names the key and the fix.

    Some settings fail only later, such as a prompt's text. Clients then see only that something failed.
    """

    code = "settings"
    message = "The settings do not hold together."

    @property
    def for_client(self) -> tuple[str, str]:
        """The code and message that clients see: those of a general error."""
        return FirelaunchError.code, FirelaunchError.message


class BadRequest(FirelaunchError):
    """The request cannot be understood as it was sent."""

    code = "invalid_request"
    status = 400
    message = "The request is not valid."


class InvalidId(BadRequest):
    """An id that is empty, too long, or means something else to the database."""

    code = "invalid_id"
    message = "That id is not valid."


class InvalidCursor(BadRequest):
    """A page cursor that this service did not issue."""

    code = "invalid_cursor"
    message = "That cursor is not one of ours; start from the first page."


class InvalidSchema(BadRequest):
    """A JSON schema that is invalid, or that models cannot be made to follow. The message names the place and fix."""

    code = "invalid_schema"
    message = "The schema is not valid."


class TooLarge(BadRequest):
    """The body, or one of its fields, exceeds the limit."""

    code = "too_large"
    status = 413
    message = "The request is too large."


class FileNotTaken(BadRequest):
    """A file in a message of a type, or for a model, that is not taken. The message names what is."""

    code = "file_not_taken"
    status = 415
    message = "None of this app's models takes such files."


class DocumentUnreadable(FirelaunchError):
    """A file that cannot be read as a document.

    Args:
        problem: a short constant that names the problem, such as "encrypted", so that code can tell cases apart.
        message: the problem in words for the user, with the way to solve it.
    """

    code = "document_unreadable"
    status = 422
    message = "This file cannot be read."

    def __init__(self, problem: str, message: str | None = None, *, reason: str | None = None) -> None:
        self.problem = problem
        super().__init__(message, reason=reason)


class FetchRefused(FirelaunchError):
    """A URL that may not, or cannot, be fetched.

    Args:
        problem: a short constant that names the reason, such as "private_address", so that code can tell cases apart.
        message: the reason in words for the user, with the way to solve it.
    """

    code = "fetch_refused"
    status = 422
    message = "This address cannot be fetched."

    def __init__(self, problem: str, message: str | None = None, *, reason: str | None = None) -> None:
        self.problem = problem
        super().__init__(message, reason=reason)


class Unauthenticated(FirelaunchError):
    """The token is missing or invalid. The reason is logged, and clients never see it."""

    code = "unauthenticated"
    status = 401
    message = "Sign in first: send a valid token as 'Authorization: Bearer <token>'."


class Forbidden(FirelaunchError):
    """The caller is known, and may not do this."""

    code = "forbidden"
    status = 403
    message = "You may not do this."


class FeatureMissing(Forbidden):
    """The caller's plan does not switch on the feature that the route needs. The message names the plans that do."""

    code = "feature_missing"
    message = "Your plan does not include this."


class NoGroupChats(Forbidden):
    """The app's groups have no chats."""

    code = "no_group_chats"
    message = "Groups of this app have no chats: firelaunch.toml does not say who pays for them (groups.chats_paid_by)."


class NotFound(FirelaunchError):
    """The resource does not exist, or is not the caller's. Clients cannot tell which."""

    code = "not_found"
    status = 404
    message = "There is nothing here."


class Conflict(FirelaunchError):
    """The request does not fit the resource's current state."""

    code = "conflict"
    status = 409
    message = "This does not fit the present state; read it again and retry."


class TooMany(Conflict):
    """The plan, or the library, allows no more documents."""

    code = "too_many_documents"
    message = "There are as many documents as are allowed. Delete one first."


class PassageChanged(Conflict):
    """A document no longer holds the requested passage."""

    code = "passage_changed"
    message = "This document was changed since, and no longer holds this passage."


class RequestInProgress(Conflict):
    """A request with the same Idempotency-Key has not ended yet."""

    code = "request_in_progress"
    message = "A request with this Idempotency-Key is still running."


class IdempotencyMismatch(FirelaunchError):
    """The Idempotency-Key was used before, with another body."""

    code = "idempotency_key_reused"
    status = 422
    message = "This Idempotency-Key was used with another body; use a new key for a new request."


class RateLimited(FirelaunchError):
    """The plan's requests, or uploads, of this minute are used up."""

    code = "rate_limited"
    status = 429
    message = "Too many requests this minute."


class TooManyStreams(FirelaunchError):
    """Too many clients of this user, or of this process, follow answers: each of them holds a thread."""

    code = "too_many_streams"
    status = 429
    message = "Too many clients follow answers at the moment; the answer is kept, and can be read when it is done."


class TooManyUploads(FirelaunchError):
    """The user sends as many files to this process at a time as one user may."""

    code = "too_many_uploads"
    status = 429
    message = "You are sending several files already. Send the next one when one of them is through."


class NoUploadRoom(FirelaunchError):
    """All slots for files that are being sent to this process are taken."""

    code = "no_upload_room"
    status = 503
    message = "So many files are being sent at the moment that there is no room for another. Try again."


class Overloaded(FirelaunchError):
    """A request waited too long for a thread of this process. Nothing was done for it."""

    code = "overloaded"
    status = 503
    message = "The service has too much to do at the moment. Try again."


class BudgetExceeded(FirelaunchError):
    """The plan's budget of this day is used up, or the rest of it does not cover the request."""

    code = "budget_exceeded"
    status = 429
    message = "Today's budget is used up."


class AppBudgetExceeded(BudgetExceeded):
    """The app's own budget, of the day or of the month, is used up, or the rest of it does not cover the request."""

    code = "app_budget_exceeded"
    message = "This app's budget is used up."


class CreditExceeded(BudgetExceeded):
    """The plan is paid from credit, and what is left of it does not cover the request."""

    code = "credit_exceeded"
    status = 402
    message = "Your credit does not cover this request. Top it up."


class ModelError(FirelaunchError):
    """The model provider failed and no fallback answered."""

    code = "model_failed"
    status = 502
    message = "The model could not answer. Try again."


class ModelRefused(ModelError):
    """The provider rejected the call itself. Sending it again would not help."""

    code = "model_refused"
    message = "The model's provider refused the request."
    explanation: str = ""
    """The provider's own message, for code that reads it. It may quote the prompt, so it is never logged."""


class ModelUnavailable(ModelError):
    """The provider is overloaded or unreachable."""

    code = "model_unavailable"
    status = 503
    message = "The model is not available at the moment. Try again."
    garbled: bool = False
    """Whether the provider answered with what is no answer. That may be about this one request."""


class ModelTimeout(ModelError):
    """The provider did not answer within the request's time budget."""

    code = "model_timeout"
    status = 504
    message = "The model took too long. Try again."


class EmptyAnswer(ModelError):
    """The model ended its answer without any text, each time that it was asked. The calls are paid."""

    code = "empty_answer"
    message = "The model gave no answer. Try again, or ask in other words."


class OutputLimitReached(EmptyAnswer):
    """The model used up its limit of tokens before it wrote any text, such as by thinking. The call is paid."""

    code = "output_limit_reached"
    message = "The model used up its limit of tokens before it wrote a word. Ask for less, or try again."


class AnswerFiltered(EmptyAnswer):
    """The model's provider held back the whole answer, or the model declined without a word. The call is paid."""

    code = "answer_filtered"
    message = "The model's provider held the answer back. Ask in other words."


class ToolLimitReached(EmptyAnswer):
    """The model used up its tool steps without writing any text. The calls are paid."""

    code = "tool_limit_reached"
    message = "The model went on asking for tools, and gave no answer. Ask in other words."


class ExtractionFailed(ModelError):
    """The model's answer does not fit the schema, even after the model saw the errors."""

    code = "extraction_failed"
    message = "The model's answer did not fit the schema, also when it was told what was wrong."


class ContentRefused(FirelaunchError):
    """The app's moderation refused the text. The reason says why, without quoting the text."""

    code = "content_refused"
    status = 422
    message = "This cannot be answered here."


class AnswerWithheld(FirelaunchError):
    """The model's answer did not pass the app's checks. The answer is paid, and nobody sees it."""

    code = "answer_withheld"
    status = 502
    message = "The answer did not pass this app's checks. Ask in other words."


class Interrupted(FirelaunchError):
    """The process is shutting down, as when a new version is deployed. The text so far is stored and billed."""

    code = "interrupted"
    status = 503
    message = "The service is restarting. What was said so far is kept; send the message again."


class StoreError(FirelaunchError):
    """The document store failed. Its own message (paths, quotas) is only for the log."""

    code = "store"

    @property
    def for_client(self) -> tuple[str, str]:
        """The code and message that clients see: the message is a general one unless the error has its own status."""
        return self.code, FirelaunchError.message if self.status == 500 else self.message


class StoreUnavailable(StoreError):
    """The store cannot be read or written at the moment: a disk is full, or a service is out of reach."""

    code = "store_unavailable"
    status = 503
    message = "Nothing can be stored at the moment. Try again."


class RecordUnreadable(StoreError):
    """A stored record does not fit its model, also after it was migrated. The reason names the record and the field."""


class AlreadyExists(StoreError):
    """A document that a commit should have created exists already."""

    code = "already_exists"
    status = 409
    message = "It exists already."


class PreconditionFailed(StoreError):
    """A document was changed or deleted after it was read."""

    code = "precondition_failed"
    status = 409
    message = "It changed in the meantime; read it again and retry."


class Fenced(StoreError):
    """The write belongs to a document, or a user, that was deleted, replaced or erased in the meantime."""

    code = "gone_meanwhile"
    status = 409
    message = "It was deleted or replaced in the meantime, so nothing was written."


class OutsideTransaction(StoreError):
    """Code inside a transaction wrote past it. This is a bug: the write would stand even if the transaction fails."""

    message = (
        "This write is inside a transaction and not a part of it: use tx, as in tx.add(record), or "
        "tx.of(collection).add(record). Enqueue jobs and keep files after the transaction."
    )


class Contention(StoreError):
    """Too many writers changed the data at once. The work was given up after its retries."""

    code = "contention"
    status = 503
    message = "Too many changes at once; try again."


class IndexFailed(FirelaunchError):
    """The index of documents failed."""

    code = "index_failed"
    message = "Your documents could not be searched. Try again; if it goes on, quote the request id."


class IndexUnavailable(IndexFailed):
    """The index of documents is overloaded or unreachable."""

    code = "index_unavailable"
    status = 503
    message = "Your documents cannot be searched at the moment; try again."


class ScopeViolation(FirelaunchError):
    """Code reached for a path outside its app. This is a bug or an attack, so it is logged as a security event.

    Clients see the same response as for anything that is not theirs.
    """

    code = "not_found"
    status = 404
    message = NotFound.message


class JobsUnavailable(FirelaunchError):
    """Jobs cannot be accepted at the moment, or no backend for jobs is set up."""

    code = "jobs_unavailable"
    status = 503
    message = "Work cannot be taken on at the moment; try again."


def error_of(code: str) -> FirelaunchError:
    """Return a new error of the kind that has ``code``, or a general error if no kind has it."""
    kinds = [FirelaunchError]
    for kind in kinds:
        if kind.code == code and kind.__init__ is FirelaunchError.__init__:
            return kind()
        kinds += kind.__subclasses__()
    return FirelaunchError()


_UNITS = ((2**20, 1, "MiB"), (10**6, 10, "MB"), (2**10, 1, "KiB"), (10**3, 1, "KB"))
"""The bytes of a unit, into how many parts it may be divided, and its name."""


def size_text(size: int) -> str:
    """Return a number of bytes in the largest unit that says it exactly, such as ``20 MiB`` or ``3.5 MB``."""
    for unit, parts, name in _UNITS:
        if size >= unit and not size * parts % unit:
            return f"{size / unit:,g} {name}"
    return f"{size:,} {'byte' if size == 1 else 'bytes'}"
