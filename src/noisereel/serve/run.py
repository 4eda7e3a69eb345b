"""A server on an address, from its start to its end."""

from __future__ import annotations

import socket
import sys
import threading

import uvicorn

from noisereel.serve.app import application
from noisereel.serve.config import Config
from noisereel.serve.keys import Keys
from noisereel.serve.server import Server


def serve(config: Config, keys: Keys, host: str, port: int) -> None:
    """Until a signal ends it.

    Raises:
        ValueError: the address is taken, or the first model cannot be opened.
    """
    listener = bound(host, port)
    server = Server(config)
    local = () if keys.digests else ("localhost", "127.0.0.1", "[::1]", host)
    settings = uvicorn.Config(
        application(server, keys, hosts=local),
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,  # longer than proxies keep theirs, so that they close first
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=65536,
    )
    web = uvicorn.Server(settings)
    threading.Thread(target=_announce, args=(server, web, listener), daemon=True).start()
    web.run(sockets=[listener])
    first, _ = config.models[0]
    if first in server.broken:
        raise ValueError(f"the model {first!r} cannot be opened: {server.broken[first]}")


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        ValueError: it cannot; says why.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise ValueError(f"cannot listen on {host}, port {port} ({error.strerror}): choose another --port") from error
    return listener


def _announce(server: Server, web: uvicorn.Server, listener: socket.socket) -> None:
    """Say where it is once the first model is open; end it if that one cannot be."""
    server.settled.wait()
    first, _ = server.config.models[0]
    if first in server.broken:
        web.should_exit = True
        return
    host, port, *_ = listener.getsockname()
    shown = f"[{host}]" if ":" in host else host
    print(f"noisereel: serving {', '.join(name for name, _ in server.config.models)} at http://{shown}:{port}", file=sys.stderr)
