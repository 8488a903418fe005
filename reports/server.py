"""A look at the built site over HTTP, from this machine alone."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.errors import UserError


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder; silent, and never from a browser's cache: the site may just have been built again."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return None


def local_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of the folder at 127.0.0.1; UserError for a port that is taken or out of range. 0: any free port."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"port {port} cannot be used: {reason}; name another with --port, or 0 for any.") from error
