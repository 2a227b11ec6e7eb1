"""Many experiments on many machines: all combinations of parameters, run by Ray.

Each combination gives the same results as `dvc exp run -S …` in this folder, with everything in the
working tree, committed or not: the same experiment of MLflow records its runs, and `dvc exp show`
lists it. If the machine of a trial dies, another machine repeats the trial. One table, a CSV file,
contains all results.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from rich.table import Table

from aae.errors import SweepError, TrackingError, without_password
from aae.evaluation.measures import HEADLINES, SORTED_BY, headlines
from aae.files import check_writable, write_csv
from aae.progress import show_steps
from aae.sweep import trial
from aae.sweep.combinations import by_name, combine, experiment_names
from aae.tracking.store import Store, connect
from aae.workspace import NO_COMMIT, git, obstacle_to_a_copy, project_root

# The file of a trial with its measures.
MEASURED = "reports/metrics/latent.json"
# How often a trial is started again after its machine or its worker has died.
RETRIES = 3
# The table shows this model.
MODEL = "aae"
# Schemes of stores that only this machine can write to.
LOCAL_STORES = ("", "file", "sqlite")
# The longest name of a socket in Ray's temporary folder, with a date and a process id in it.
SOCKET = "/ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
# Time limit in seconds for an answer of the cluster, and for trials to end after Ctrl-C.
PATIENCE = 30


def sweep(
    name: str, overrides: Sequence[str], address: str | None, cpus: int, gpus: float, path: Path
) -> pd.DataFrame:
    """Run all combinations of parameters, each as a DVC experiment.

    Args:
        name: name of the experiments; each gets a number after it.
        overrides: parameters and their values, in the syntax of `dvc exp run --queue -S`.
        address: address of a cluster; RAY_ADDRESS, or a cluster of this machine alone, if None.
        cpus: cores for each trial.
        gpus: GPUs for each trial.
        path: file for the table, which is written after every trial.

    Returns:
        The table with one row for each trial and the best match first.

    Raises:
        ParameterError: if a value is wrong; nothing has run in that case.
        SweepError: if nothing can run for another reason.
        OutputError: if the table cannot be written.
    """
    if cpus < 1 or gpus < 0:
        raise SweepError(f"--cpus {cpus} --gpus {gpus:g}: a trial needs a core, and 0 GPUs or more")
    combinations = combine(overrides)
    trials = dict(zip(experiment_names(name, combinations), combinations, strict=True))
    baseline = git("rev-parse", "HEAD")
    if baseline is None:
        raise SweepError(NO_COMMIT)
    if reason := obstacle_to_a_copy():
        raise SweepError(reason)
    packed = trial.pack()  # now, since the commit may change while the sweep runs
    check_writable(path)
    root, session = project_root(Path.cwd()), uuid.uuid4().hex
    try:
        # This creates the experiment, so that its files go where runs of this machine put them.
        store = connect(root)
    except TrackingError as error:
        raise SweepError(str(error)) from error
    variables = {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")}
    variables |= {"MLFLOW_TRACKING_URI": store.uri, "OMP_NUM_THREADS": str(cpus)}
    columns = ["experiment", *by_name(combinations[0]), *HEADLINES, "error"]
    table = pd.DataFrame(columns=columns)
    with cluster(address, cpus, gpus, store.uri) as ray:
        run = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(trial.run_trial)
        project, running = ray.put(packed), {}
        for trial_name, changes in trials.items():
            reference = f"refs/exps/{baseline[:2]}/{baseline[2:]}/{trial_name}"
            own = variables | {"AAE_TRIAL": f"{session} {trial_name}"}
            running[run.remote(project, session, reference, changes, own)] = reference
        rows: list[dict[str, Any]] = []
        with ExitStack() as last:  # runs all callbacks, the last one first, even after Ctrl-C
            last.callback(_end_left, store, session)
            last.callback(_collect, ray, session, root)
            last.callback(_stop, ray, running)
            ended = show_steps(_outcomes(ray, running), len(trials), "trials")
            for reference, bundle, log in ended:
                rows.append(_take(reference, bundle, log, trials))
                table = pd.DataFrame(rows, columns=columns).sort_values(SORTED_BY, kind="stable")
                write_csv(path, table)
    return table


@contextmanager
def cluster(address: str | None, cpus: int, gpus: float, store: str) -> Iterator[ModuleType]:
    """Yield Ray, connected to a cluster that can run the trials.

    Args:
        address: address of the cluster; RAY_ADDRESS, or a cluster of this machine alone, if None.
        cpus: cores for each trial.
        gpus: GPUs for each trial.
        store: address of MLflow's store.

    Raises:
        SweepError: if Ray is not installed, there is no such cluster, or it cannot run the trials.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its vendor
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it would print a warning
    try:
        import ray
    except ImportError as error:
        raise SweepError("Ray is not installed: pip install 'aae[sweep]'") from error
    ray.cloudpickle.register_pickle_by_value(trial)
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    local = address == "local"
    if local:
        _check_length_of_sockets()
    try:
        if ":" in address:  # Ray itself would try without end
            url = urlsplit(address if "//" in address else f"//{address}")
            socket.create_connection((url.hostname, url.port), PATIENCE).close()
        ray.init(
            address, log_to_driver=False, logging_level=logging.ERROR,
            **({"include_dashboard": False} if local else {}),
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise SweepError(f"--address: no cluster at {address!r}: {error}") from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's handler crashes
    try:
        machines = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        if not any(
            machine["Resources"].get("CPU", 0) >= cpus
            and machine["Resources"].get("GPU", 0) >= gpus
            for machine in machines.values()
        ):
            asked = f"--cpus {cpus} --gpus {gpus:g}"
            raise SweepError(f"{asked}: no machine of the cluster has that many")
        here = machines[ray.get_runtime_context().get_node_id()]["NodeManagerAddress"]
        others = {machine["NodeManagerAddress"] for machine in machines.values()} - {here}
        if urlsplit(store).scheme.partition("+")[0] in LOCAL_STORES and (
            others or address.startswith("ray://")
        ):
            raise SweepError(
                f"MLFLOW_TRACKING_URI: {store} is a file of this machine, but the cluster has "
                "other machines; set it to the address of a server (`mlflow server`)"
            )
        yield ray
    finally:
        ray.shutdown()


def _check_length_of_sockets() -> None:
    """Check that Ray can make its sockets, whose names the system limits to 107 bytes.

    Raises:
        SweepError: if its temporary folder has a name that is too long.
    """
    variable = next((x for x in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(x)), "RAY_TMPDIR")
    folder = os.environ.get(variable) or tempfile.gettempdir()
    most = 107 - len(SOCKET)
    if len(os.fsencode(folder)) > most:
        raise SweepError(
            f"{variable}: {folder!r} has {len(os.fsencode(folder))} bytes; Ray's sockets in it "
            f"need a folder whose name has at most {most}, such as /tmp"
        )


def _outcomes(ray: ModuleType, running: dict[Any, str]) -> Iterator[tuple[str, bytes, str]]:
    """Yield the reference, the experiment and the end of the output of each trial as it ends."""
    while running:
        (ended,), _ = ray.wait(list(running))
        reference = running.pop(ended)
        try:
            bundle, log = ray.get(ended)
        except ray.exceptions.RayError as error:
            bundle, log = b"", str(error)
        yield reference, bundle, log


def _take(
    reference: str, bundle: bytes, log: str, trials: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Add a trial's experiment to this repository, print its result, and return its row."""
    name = reference.rpartition("/")[2]
    row: dict[str, Any] = {"experiment": name} | by_name(trials[name])
    changes = " ".join(trials[name])
    if bundle:
        try:
            trial.unpack(bundle, reference)
        except (OSError, subprocess.CalledProcessError) as error:  # the disk is full
            bundle, log = b"", f"error: git rejects the experiment: {error}"
    if bundle:
        measured = json.loads(git("show", f"{reference}:{MEASURED}") or "")[MODEL]
        print(f"{name} ({changes}): {SORTED_BY} {measured[SORTED_BY]:.4g}", flush=True)
        return row | headlines(measured)
    lines = without_password(log).strip().splitlines() or ["the trial ended without any output"]
    reason = next((line for line in lines if line.startswith("error: ")), lines[-1])
    print("\n".join(["", *lines, f"{name} ({changes}) failed"]), file=sys.stderr, flush=True)
    return row | {"error": reason.removeprefix("error: ")}


def _stop(ray: ModuleType, running: Mapping[Any, str]) -> None:
    """Cancel the running trials, and wait until they have ended."""
    for sent in running:
        ray.cancel(sent)
    if running:
        ray.wait(list(running), num_returns=len(running), timeout=PATIENCE)


def _collect(ray: ModuleType, session: str, root: Path) -> None:
    """Delete the files on the machines, after fetching records that MLflow has not accepted."""
    on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    for machine in filter(lambda node: node["Alive"], ray.nodes()):
        there = {"num_cpus": 0, "scheduling_strategy": on(machine["NodeID"], soft=False)}
        pack, leave = (ray.remote(**there)(f) for f in (trial.pack_spool, trial.leave_machine))
        try:
            if spool := ray.get(pack.remote(session), timeout=PATIENCE):
                trial.extract(spool, root, "data_filter")
                print("warning: MLflow has not accepted all records; upload them with `aae sync`",
                      file=sys.stderr)  # fmt: skip
            ray.get(leave.remote(session), timeout=PATIENCE)
        except (ray.exceptions.RayError, OSError) as error:
            print(f"warning: {machine['NodeManagerAddress']} keeps aae-sweep-{session} in its "
                  f"temporary folder, with the records that MLflow has not accepted: "
                  + str(error).rpartition("\n")[2], file=sys.stderr)  # fmt: skip


def _end_left(store: Store, session: str) -> None:
    """End the runs of stages that were killed."""
    try:
        store.end_left(session)
    except TrackingError as error:
        print(f"warning: {error}", file=sys.stderr)


def draw(table: pd.DataFrame) -> Table:
    """Return the table for a terminal, without the reasons for failed trials.

    Measures that no trial has are left out: those of categories, unless the models have these.
    """
    failed = table["error"].notna()
    trained = table[~failed]
    names = [name for name in table.columns[:-1] if failed.all() or trained[name].notna().any()]
    shown = Table(show_edge=False)
    for name in names:
        shown.add_column(HEADLINES.get(name, name), overflow="fold")
    rows = table[names].itertuples(index=False)
    for cells, without in zip(rows, failed.map({True: "failed", False: ""}), strict=True):
        texts = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        shown.add_row(*(without if text in ("nan", "None") else text for text in texts))
    return shown
