"""The page served on this machine while runs are going: made anew when asked for, and asked for every few seconds.

It listens on 127.0.0.1 only, answers to that name only (a foreign page that points its own host name here gets
nothing), and serves one thing, the page: no file of the results folder can be asked for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from benchmarks.report.gather import gather
from benchmarks.report.page import render
from tasks.errors import BadInput, RunFailed, require

LOOPBACK = "127.0.0.1"


class PageServer(ThreadingHTTPServer):
    """Serves the report of one folder.

    Args:
        directory: gives the folder of the records; asked for each page, so that it can follow a store.
        port: 0 takes a free one.
        refresh_s: seconds between two readings of the folder, at least.

    Raises:
        BadInput: there is no such folder, or the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, directory: Callable[[], Path], port: int, refresh_s: int) -> None:
        first = directory()
        require(first.is_dir(), f"{first}: no such results folder; run something first, or give --runs DIR")
        require(0 <= port < 2**16, f"--port {port} must be from 0 to {2**16 - 1}")
        require(refresh_s >= 1, f"--refresh {refresh_s} must be at least 1 second")
        self.directory, self.refresh_s = directory, refresh_s
        self._page, self._made, self._lock = b"", -float("inf"), Lock()
        try:
            super().__init__((LOOPBACK, port), PageHandler)
        except OSError as error:
            raise BadInput(f"--port {port}: cannot listen there ({error.strerror}); 0 takes a free one") from None

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def page(self) -> bytes:
        """The page, at most `refresh_s` old; where a store is away, or the folder gone, the page before.

        Raises:
            BadInput, RunFailed: that is so, and there is no page before.
        """
        with self._lock:
            if time.monotonic() - self._made >= self.refresh_s:
                try:
                    directory = self.directory()
                    self._page = render(gather(directory), directory, self.refresh_s).encode()
                except (BadInput, RunFailed) as error:
                    print(f"not refreshed: {error}", file=sys.stderr)
                    if not self._page:
                        raise
                self._made = time.monotonic()
            return self._page


class PageHandler(BaseHTTPRequestHandler):
    """Answers `GET /`, and refuses everything else."""

    server: PageServer

    def do_GET(self) -> None:
        """The page."""
        port = self.server.server_address[1]
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            try:
                page = self.server.page()
            except (BadInput, RunFailed):
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
                return
            self.send_response(HTTPStatus.OK)
            headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(page))}
            headers |= {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of requests that went well or not: the page is the output."""
