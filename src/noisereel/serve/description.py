"""What OpenAPI says of requests and answers that the routes read and write themselves."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_REFERENCE = {
    "type": "object",
    "description": "a data URL as image_url, or the id of a video made here",
    "properties": {"image_url": {"type": "string"}, "id": {"type": "string"}},
}
_FILE = {"type": "string", "format": "binary"}
_ERROR = {
    "description": "refused",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": "string"},
                        },
                    }
                },
            }
        }
    },
}
REFUSED: dict[int | str, dict[str, Any]] = {"4XX": _ERROR, "503": _ERROR}


def body(model: type[BaseModel], file: str | None = None) -> dict[str, Any]:
    """A body of the model's fields, as JSON, or as a form with a file of that name."""
    schema = model.model_json_schema()
    fields = schema["properties"]
    as_json = {**schema, "properties": {**fields, **({file: _REFERENCE} if file else {})}}
    content = {"application/json": {"schema": as_json}}
    if file:
        content["multipart/form-data"] = {"schema": {**schema, "properties": {**fields, file: _FILE}}}
    return {"requestBody": {"required": True, "content": content}}
