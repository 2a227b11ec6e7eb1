"""Real servers that become unreachable and come back."""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO


class Server:
    """A real `mlflow server` on loopback, behind a door, since a restart takes many seconds.

    Args:
        folder: folder for its database and artifacts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.port = free_port()
        self.door = Door(self.port)
        self.uri = f"http://127.0.0.1:{self.door.port}"

    def start(self) -> None:
        """Make it reachable; if it does not run, start it and wait until it serves."""
        if self.process is None:
            command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
            address = ["--host", "127.0.0.1", "--port", str(self.port)]
            store = ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
            artifacts = ["--artifacts-destination", str(self.folder / "artifacts")]
            self.process = subprocess.Popen(
                [*command, *address, *store, *artifacts],
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                start_new_session=True,
            )  # fmt: skip
            wait_for_line(self.process.stderr, "Uvicorn running")
        self.door.open()

    def stop(self) -> None:
        """Make it unreachable: break connections and refuse new ones, like a dead server."""
        self.door.close()

    def kill(self) -> None:
        """Kill the server."""
        self.stop()
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Door:
    """A port on loopback, closed at first, which forwards to another port while it is open.

    Args:
        target: the other port.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        # A socket that does not listen reserves the port while the door is closed.
        self.listener, self.is_open = _bound(0), False
        self.port = self.listener.getsockname()[1]
        self.guests: set[socket.socket] = set()
        self.lock = threading.Lock()

    def open(self) -> None:
        """Let connections through."""
        if not self.is_open:
            self.is_open = True
            self.listener.listen()
            threading.Thread(target=self._accept, args=[self.listener], daemon=True).start()

    def close(self) -> None:
        """Break all connections, and refuse new ones."""
        with self.lock:
            if self.is_open:
                self.is_open = False
                _hang_up(self.listener, *self.guests)
                self.listener.close()
                self.listener = _bound(self.port)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the door is closed
            while True:
                guest, _ = listener.accept()
                threading.Thread(target=self._lead, args=[guest, listener], daemon=True).start()

    def _lead(self, guest: socket.socket, listener: socket.socket) -> None:
        with guest, suppress(OSError):
            with self.lock:
                if self.listener is not listener:
                    return
                self.guests.add(guest)
            try:
                with socket.create_connection(("127.0.0.1", self.target)) as host:
                    for end in (guest, host):  # otherwise small messages would wait for each other
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    back = threading.Thread(target=_forward, args=[host, guest], daemon=True)
                    back.start()
                    _forward(guest, host)
                    back.join()
            finally:
                with self.lock:
                    self.guests.remove(guest)


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    _hang_up(source, target)


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):  # the other end has closed it
            end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """Return a free port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_line(stream: IO[str] | None, text: str) -> str:
    """Read lines from a process until one contains a text; then read on in the background."""
    assert stream is not None
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            # Unread output would block the process once the pipe is full.
            threading.Thread(target=stream.read, daemon=True).start()
            return line
    raise AssertionError(f"it ended without {text!r}:\n{''.join(lines)}")
