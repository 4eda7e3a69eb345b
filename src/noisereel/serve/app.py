"""The application: routes, the page, and what guards them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from noisereel import __version__
from noisereel.serve.errors import Refused
from noisereel.serve.guard import Guard
from noisereel.serve.keys import Keys
from noisereel.serve.routes import refused, router
from noisereel.serve.server import Server

PAGE = Path(__file__).parent / "page"


def application(server: Server, keys: Keys, hosts: Iterable[str] = ()) -> FastAPI:
    """The ASGI application; ``hosts`` are the names it answers to, all if there are none."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        server.stop()

    app = FastAPI(title="Noisereel", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.state.server, app.state.keys = server, keys
    app.include_router(router)
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _fault)
    app.add_middleware(Guard, body=server.config.body, hosts=hosts)
    if (PAGE / "index.html").exists():
        app.mount("/static", StaticFiles(directory=PAGE), name="static")

        @app.get("/", include_in_schema=False)
        def page() -> FileResponse:
            return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    return app


def _misread(_: Request, error: Exception) -> Response:
    """A query or path that does not fit."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return JSONResponse(Refused(400, f"{name}: {first['msg']}.", "invalid_value", name).body(), 400)


def _http(_: Request, error: Exception) -> Response:
    """What the framework refuses, without what was asked for in it."""
    assert isinstance(error, HTTPException)
    said = {404: "There is nothing at this address.", 405: "This address does not take that method."}
    body = Refused(error.status_code, said.get(error.status_code, "The request cannot be answered."), "http_error").body()
    return JSONResponse(body, error.status_code, headers=error.headers)


def _fault(_: Request, error: Exception) -> Response:
    """A fault of ours: its traceback goes to the log, nothing of it to the client."""
    return JSONResponse(Refused(500, "The server made a mistake; its log says which.", "internal_error").body(), 500)
