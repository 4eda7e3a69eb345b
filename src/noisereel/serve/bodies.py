"""The bodies of requests: JSON or a form, with or without a file, as the clients of OpenAI's API send them."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from noisereel.serve.errors import Refused, invalid
from noisereel.serve.uploads import from_data_url

FILES = ("input_reference", "video")
Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request) -> tuple[dict[str, Any], bytes | None, str | None]:
    """The fields, the bytes of the file that came with them, and the id of the video that is referred to instead.

    Raises:
        Refused: neither JSON nor a form, or one that is broken.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or not kind:
        fields = await _json(request)
    elif kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        fields = await _form(request)
    else:
        raise Refused(415, "Send JSON or a multipart form.", "unsupported_media_type")
    upload, reference = None, None
    for name in FILES:
        if (given := fields.pop(name, None)) in (None, ""):
            continue
        if upload is not None or reference is not None:
            raise invalid("Send one file.", name)
        upload, reference = _referred(name, given)
    return fields, upload, reference


def checked(kind: type[Model], fields: dict[str, Any]) -> Model:
    """The fields as the model knows them.

    Raises:
        Refused: names the first that is wrong.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or None
        if first["type"] == "extra_forbidden":
            raise invalid(f"There is no parameter {name!r}."[:200], name, "unknown_parameter") from error
        if first["type"] == "missing":
            raise invalid(f"The parameter {name} is missing.", name, "missing_required_parameter") from error
        raise invalid(f"{name}: {first['msg']}.", name) from error


async def _json(request: Request) -> dict[str, Any]:
    try:
        fields = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise invalid("The body is not JSON.", None, "invalid_json") from error
    if not isinstance(fields, dict):
        raise invalid("The body is not a JSON object.", None, "invalid_json")
    return fields


async def _form(request: Request) -> dict[str, Any]:
    """Fields such as ``video[id]`` become ``{"video": {"id": ...}}``."""
    from starlette.exceptions import HTTPException

    fields: dict[str, Any] = {}
    try:
        async with request.form(max_files=1, max_fields=40, max_part_size=2**20 * 32) as form:
            for name, value in form.multi_items():
                given = await value.read() if isinstance(value, UploadFile) else value
                outer, bracket, inner = name.partition("[")
                if bracket and inner.endswith("]") and outer in FILES and isinstance(given, str):
                    within = fields.setdefault(outer, {})
                    if not isinstance(within, dict):
                        raise invalid("Send one file.", outer)
                    within[inner[:-1]] = given
                elif name in fields:
                    raise invalid("A parameter was given twice.", name[:60])
                else:
                    fields[name] = given
    except HTTPException as error:
        raise invalid("The form is broken or has too many parts.", None, "invalid_form") from error
    return fields


def _referred(name: str, given: Any) -> tuple[bytes | None, str | None]:
    if isinstance(given, bytes):
        return given, None
    if isinstance(given, str) and given.startswith("data:"):
        return from_data_url(given), None
    if isinstance(given, dict) and isinstance(given.get("image_url"), str):
        return from_data_url(given["image_url"]), None
    if isinstance(given, dict) and isinstance(given.get("id"), str):
        return None, given["id"]
    raise invalid("Send a file, a data URL as image_url, or the id of a video made here.", name)
