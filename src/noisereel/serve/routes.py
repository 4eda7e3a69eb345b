"""The routes of OpenAI's video API, and our own beside them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from noisereel.serve.accepting import accepted, check_prompts, known_model
from noisereel.serve.asking import Remix, VideoRequest
from noisereel.serve.bodies import checked, read_body
from noisereel.serve.description import REFUSED, body
from noisereel.serve.errors import Refused, invalid
from noisereel.serve.facts import Facts
from noisereel.serve.formats import TYPES, Manner, Wanted, written
from noisereel.serve.server import Server
from noisereel.serve.store import Job

Answer = TypeVar("Answer")
SLOW = CapacityLimiter(8)  # threads that decode uploads and write files
HEARTBEAT = 15.0  # seconds of silence after which a stream says that it is alive

router = APIRouter(responses=REFUSED)


def server_of(request: Request) -> Server:
    return request.app.state.server


def owner_of(request: Request) -> str:
    """Whoever's key the request holds."""
    return request.app.state.keys.owner(request.headers.get("authorization"))


async def patiently(function: Callable[..., Answer], *given: Any) -> Answer:
    """What may take seconds, in a few threads of its own, so that short requests do not wait behind it."""
    return await to_thread.run_sync(function, *given, limiter=SLOW)


Owner = Annotated[str, Depends(owner_of)]
TheServer = Annotated[Server, Depends(server_of)]


@router.post("/v1/videos", openapi_extra=body(VideoRequest, "input_reference"))
async def create(request: Request, owner: Owner, server: TheServer) -> JSONResponse:
    """Accept a job: when this is answered, it is kept."""
    fields, upload, reference = await read_body(request)
    asked = checked(VideoRequest, fields)
    return await patiently(_accepted, server, owner, asked, upload, reference, _once(request))


@router.post("/v1/videos/extensions", openapi_extra=body(VideoRequest, "video"))
async def extend(request: Request, owner: Owner, server: TheServer) -> JSONResponse:
    """Go on from a video that was made here or is sent along; ``seconds`` is how much is added."""
    fields, upload, reference = await read_body(request)
    asked = checked(VideoRequest, {**fields, "kind": "extend"})
    if upload is None and reference is None:
        raise invalid("Which video is to be extended? Send it, or its id.", "video", "missing_required_parameter")
    return await patiently(_accepted, server, owner, asked, upload, reference, _once(request))


@router.get("/v1/videos")
def list_videos(
    owner: Owner,
    server: TheServer,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=100)] = None,
    order: Literal["asc", "desc"] = "desc",
) -> JSONResponse:
    """A page of the jobs, the newest first."""
    try:
        jobs, more = server.store.page(owner, limit=limit, after=after, newest_first=order == "desc")
    except KeyError as error:
        raise invalid("There is no video with the id that after names.", "after") from error
    unfinished = server.store.unfinished()
    data = [server.describe(job, unfinished) for job in jobs]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return JSONResponse({"object": "list", "data": data, "has_more": more, "first_id": first, "last_id": last})


@router.get("/v1/videos/{video_id}")
def retrieve(video_id: str, owner: Owner, server: TheServer) -> JSONResponse:
    """One job; the header says when it is worth asking again."""
    return _video(server, server.find(owner, video_id))


@router.delete("/v1/videos/{video_id}")
def delete(video_id: str, owner: Owner, server: TheServer) -> JSONResponse:
    """Cancel the job if it is not over, and remove its files."""
    server.delete(owner, video_id)
    return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})


@router.post("/v1/videos/{video_id}/cancel")
def cancel(video_id: str, owner: Owner, server: TheServer) -> JSONResponse:
    """Stop the job within a sampling step; it has then failed with the code ``cancelled``."""
    return _video(server, server.cancel(owner, video_id))


@router.post("/v1/videos/{video_id}/remix", openapi_extra=body(Remix))
async def remix(video_id: str, request: Request, owner: Owner, server: TheServer) -> JSONResponse:
    """The same settings and seed with another prompt."""
    fields, _, _ = await read_body(request)
    asked = checked(Remix, fields)

    def submit() -> JSONResponse:
        before = server.find(owner, video_id)
        if before.settings["input"]:
            raise invalid("A video that began with a file cannot be remixed: send the file again.", "video_id")
        settings = {**before.settings, "prompt": asked.prompt, "remixed_from": video_id}
        check_prompts(server, settings)
        return _video(server, server.submit(owner, settings, once=_once(request)))

    return await run_in_threadpool(submit)


@router.get("/v1/videos/{video_id}/content")
async def content(
    video_id: str, owner: Owner, server: TheServer, variant: str = "video", format: str | None = None
) -> FileResponse:
    """The finished video, its middle frame, or all frames as a sheet."""
    return await patiently(_content, server, owner, video_id, Wanted.of(variant, format))


def _content(server: Server, owner: str, id: str, wanted: Wanted) -> FileResponse:
    job = server.find(owner, id)
    if job.expired:
        raise Refused(410, "The files of this video were removed to make room.", "video_expired", "video_id")
    if job.state != "completed" or job.result is None:
        raise Refused(409, f"The video is {job.state}, not completed.", "video_not_ready", "video_id")
    manner = Manner(job.result["note"], job.settings["fps"], job.settings["scale"], server.config.signing)
    path = written(server.results.of(job.id), wanted, manner)
    return FileResponse(
        path,
        media_type=TYPES[wanted.format],
        filename=f"{job.id}.{wanted.format}",
        content_disposition_type="inline",
        headers={"Cache-Control": "private, max-age=86400, immutable"},
    )


@router.get("/v1/videos/{video_id}/events")
async def events_of_one(video_id: str, owner: Owner, server: TheServer) -> StreamingResponse:
    """What happens to one job until it ends, as server-sent events: state, progress, preview."""
    await run_in_threadpool(server.find, owner, video_id)
    return _stream(server, owner, video_id)


@router.get("/v1/events")
async def events_of_all(owner: Owner, server: TheServer) -> StreamingResponse:
    """What happens to all jobs."""
    return _stream(server, owner, None)


@router.get("/v1/models")
def models(owner: Owner, server: TheServer) -> JSONResponse:
    """The models that are open, with what each can do."""
    return JSONResponse({"object": "list", "data": [_model(facts) for facts in server.facts.values()]})


@router.get("/v1/models/{model}")
def model(model: str, owner: Owner, server: TheServer) -> JSONResponse:
    return JSONResponse(_model(known_model(server, model)))


@router.get("/health")
async def health(server: TheServer) -> JSONResponse:
    """200 when videos can be made."""
    state = "ok" if server.ready else "starting"
    return JSONResponse({"status": state, "models": list(server.facts)}, 200 if server.ready else 503)


@router.get("/metrics")
def metrics(owner: Owner, server: TheServer) -> PlainTextResponse:
    """For Prometheus."""
    text = server.metrics.text(server.store, len(server.broker))
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _accepted(server: Server, owner: str, *given: Any) -> JSONResponse:
    """The answer to a request for a job, which is on disk by then."""
    return _video(server, accepted(server, owner, *given))


def _once(request: Request) -> str | None:
    """What makes a repeated request the same one.

    Raises:
        Refused: longer than any client's.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and len(key) > 255:
        raise invalid("An Idempotency-Key has 255 characters at most.", "Idempotency-Key")
    return key


def _model(facts: Facts) -> dict[str, Any]:
    return {"object": "model", "created": 0, "owned_by": "noisereel", **asdict(facts)}


def _video(server: Server, job: Job) -> JSONResponse:
    video = server.describe(job)
    left = video["eta_seconds"]
    soon = 250 if left is None else max(50, min(2000, int(500 * left)))  # clients ask again after so many milliseconds
    return JSONResponse(video, headers={"openai-poll-after-ms": str(soon)})


def _stream(server: Server, owner: str, id: str | None) -> StreamingResponse:
    if len(server.broker) >= server.config.listeners:
        raise Refused(429, "Too many streams of events are open.", "too_many_streams", headers={"Retry-After": "5"})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(server, owner, id), media_type="text/event-stream", headers=headers)


async def _events(server: Server, owner: str, id: str | None) -> AsyncIterator[str]:
    with server.broker.listening(owner, id) as listener:
        yield ": hello\n\n"
        if id is not None:  # the present state, so that nobody waits for what has happened already
            job = await run_in_threadpool(server.store.get, id)
            if job is None:
                return
            yield _event("state", await run_in_threadpool(server.describe, job))
            if job.state in ("completed", "failed"):
                return
        while not server.stopping:
            try:
                event = await asyncio.wait_for(listener.queue.get(), HEARTBEAT)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            yield _event(event.kind, event.data)
            if id is not None and event.kind == "state" and event.data["status"] in ("completed", "failed"):
                return


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def refused(_: Request, error: Exception) -> Response:
    """The answer to what was refused."""
    assert isinstance(error, Refused)
    return JSONResponse(error.body(), error.status, headers=dict(error.headers))
