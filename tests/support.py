"""What several tests need: parameters with changes, small data, a copy of the project."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from filelock import FileLock
from ruamel.yaml import YAML

from aae.data.data import SPLITS, Images
from aae.params import Params, load_params

ROOT = Path(__file__).parent.parent
# The discard port: nothing listens there, the refusal is immediate.
NOWHERE = "http://127.0.0.1:9"

# Nor are tests the user's git: what it is told elsewhere, to sign or to work in another repository.
for name in [name for name in os.environ if name.startswith("GIT_")]:
    del os.environ[name]
os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

# Of networks for the digits below.
SIZES = {"image_shape": (1, 4, 4), "latent_dim": 2, "hidden": (32,), "discriminator_hidden": (32,)}

# The networks of the tests are too small to be shared out among cores.
torch.set_num_threads(1)


def write_params(path: Path, changes: dict) -> Path:
    """Write the project's params.yaml with changes, given by dotted name; None deletes a key."""
    yaml = YAML()
    values = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, value in changes.items():
        *sections, key = name.split(".")
        section = values
        for part in sections:
            section = section[part]
        if value is None:
            del section[key]
        else:
            section[key] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)
    return path


def make_digits(count: int) -> torch.Tensor:
    """uint8 images [count, 1, 4, 4], each of three classes with a bright corner of its own."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(60, (count, 1, 4, 4), generator=generator)
    for k, (row, column) in enumerate(((0, 0), (0, 2), (2, 0))):
        images[k::3, :, row : row + 2, column : column + 2] += 180
    return images.to(torch.uint8)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array in the IDX format of MNIST, http://yann.lecun.com/exdb/mnist/."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def copy_project(target: Path, changes: dict) -> Path:
    """Copy the project's own files into a new git repository, with changed parameters."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    )  # fmt: skip
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / "dvc.lock").unlink(missing_ok=True)
    write_params(target / "params.yaml", changes)
    run(["git", "init", "--quiet", "--initial-branch=main"], target)
    commit(target, "project")
    return target


def made_once(factory: pytest.TempPathFactory, name: str, changes: dict) -> Path:
    """A copy of the project after its first `dvc repro`, one for all workers; it is only read."""

    def make(root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        run(["dvc", "repro"], copy_project(root, changes))
        commit(root, "results")

    return shared(factory, name, make)


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A file or folder that one worker makes and all of them read."""
    base = factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{path}.lock"):
        complete = Path(f"{path}.complete")
        if not complete.exists():
            make(path)
            complete.touch()
    return path


def copy_results(target: Path) -> None:
    """Commit the results that git has of this project in a copy of it."""
    for name in run(["git", "ls-files", "reports"], ROOT).stdout.splitlines():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    commit(target, "results")


def commit(repository: Path, message: str) -> None:
    """Commit everything."""
    run(["git", "add", "--all"], repository)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(["git", *identity, "commit", "--quiet", "--message", message], repository)


def start(command: list[str], cwd: Path, **environment: str | None) -> subprocess.Popen[str]:
    """Start a command in a copy of the project; its `python` is the one that runs the tests.

    Tests run side by side: it gets one thread, and if a test asks for more, those that wait for
    each other leave the cores to the rest, which is many times faster where there are too few.

    Args:
        command: the command.
        cwd: where it runs.
        environment: variables of its environment; None for one that is not to be set.
    """
    if command[0] in ("dvc", "python", "mlflow"):
        module = [] if command[0] == "python" else ["-m", command[0]]
        command = [sys.executable, *module, *command[1:]]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
    # Bytecode is kept, since one project runs many commands.
    usual = {
        "PATH": path, "PYTHONDONTWRITEBYTECODE": None,
        "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip
    wanted = clean | usual | environment
    return subprocess.Popen(
        command, cwd=cwd, env={k: v for k, v in wanted.items() if v is not None}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def run(
    command: list[str], cwd: Path, check: bool = True, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a copy of the project to its end."""
    process = start(command, cwd, **environment)
    output, errors = process.communicate()
    if check and process.returncode:
        raise AssertionError(f"{command} ended with {process.returncode}:\n{errors}")
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


class Server:
    """A real `mlflow server` on loopback, behind a door: starting it anew takes many seconds.

    Args:
        folder: for its database and artifacts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.port = free_port()
        self.door = Door(self.port)
        self.uri = f"http://127.0.0.1:{self.door.port}"

    def start(self) -> None:
        """Let it be reached; if it does not run, start it and wait until it serves."""
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
        """Let it be away: connections break and new ones are refused, as those of a dead server."""
        self.door.close()

    def kill(self) -> None:
        """Kill it."""
        self.stop()
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Door:
    """A port on loopback, closed at first, that leads to another one while it is open.

    Args:
        target: the other port.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        # Nobody else gets the port while the door is closed: a socket that does not listen has it.
        self.listener, self.is_open = _bound(0), False
        self.port = self.listener.getsockname()[1]
        self.guests: set[socket.socket] = set()
        self.lock = threading.Lock()

    def open(self) -> None:
        """Let connections through from now on."""
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
                    for end in (guest, host):  # or small messages would wait for each other
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
        with suppress(OSError):  # it has been closed at the other end
            end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """A port on loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_line(stream: IO[str] | None, text: str) -> str:
    """Read lines from a process until one contains a text; go on reading in the background."""
    assert stream is not None
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            # Unread output would stop the process when the pipe is full.
            threading.Thread(target=stream.read, daemon=True).start()
            return line
    raise AssertionError(f"it ended without {text!r}:\n{''.join(lines)}")


def training_run(
    stage: str, prior: str, seed: int, params: Mapping, training: str | None = None
) -> AbstractContextManager:
    """Record a training; one that is none of those before, if it is not told which."""
    from aae.tracking import runs  # seconds, for tests that need it

    return runs.training_run(stage, prior, seed, params, training or str(uuid.uuid4()))
