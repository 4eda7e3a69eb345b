"""What goes wrong, in the shape that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    410: "not_found_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "server_error",
}


@dataclass
class Refused(Exception):  # noqa: N818  (it is an answer, not a fault)
    """An answer that is not 200: one sentence, and which parameter it is about."""

    status: int
    message: str
    code: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        kind = KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None, code: str = "invalid_value") -> Refused:
    """A request that makes no sense."""
    return Refused(400, message, code, param)


def unknown_video() -> Refused:
    """The same for a job that never was, one that is gone, and somebody else's."""
    return Refused(404, "There is no video with this id.", "video_not_found", "video_id")
