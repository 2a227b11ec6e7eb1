"""What is tracked of a training and of an evaluation: which run it is, and how it ends."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from aae.errors import TrackingError, without_password
from aae.workspace import address, git, locked, project_root
from aae.files import file_digest
from aae.tracking.recording import Run, now, warn
from aae.tracking.spool import spool_lock, spooled


@contextmanager
def training_run(
    stage: str, prior: str, seed: int, params: Mapping[str, Any], training: str
) -> Iterator[Run]:
    """Record a training stage: FINISHED at the end of the block, FAILED after an error.

    Args:
        stage: name of the stage.
        prior: name of the prior, "none" for an autoencoder without.
        seed: the seed of params.yaml.
        params: nested parameters, logged by dotted name.
        training: id of the training; if it was begun and then killed, its run goes on.
    """
    root, new = project_root(Path.cwd()), _new_run(stage, prior, seed)
    new["tags"]["training"] = training
    run = _spooled_run(root, lambda old: old["tags"].get("training") == training)
    if run is None:
        run = Run(root, new | {"find": f"tags.training = '{training}'"})
    else:  # is looked for in the store, where it goes on as if it had not been spooled
        run.run.pop("id", None)
        run.run["tags"] = new["tags"]
        run.pending = [(kind, x) for kind, x in run.pending if kind != "end"]
    run.away = False
    with _ended(run):
        run.log_params(params)
        yield run


@contextmanager
def evaluation_run(weights: Path, stage: str, prior: str, seed: int) -> Iterator[Run]:
    """Record in the run that trained a model; if there is none, in a new one that says so.

    Args:
        weights: the model file; its digest is the tag ``model_digest`` of the run that trained it.
        stage: the stage that trained it.
        prior: the prior that it was trained with, "none" for an autoencoder.
        seed: the seed of params.yaml.
    """
    root, digest = project_root(Path.cwd()), file_digest(weights)
    with locked(root, "spool"):
        run = _spooled_run(root, lambda old: old.get("model_digest") == digest)
        if run is None:
            new = _new_run(stage, prior, seed)
            new["name"] += " (trained elsewhere)"
            new["tags"] |= {"model_digest": digest, "trained_elsewhere": "true"}
            trained = f"tags.model_digest = '{digest}' and attributes.status = 'FINISHED'"
            run = Run(root, new | {"find": trained, "model_digest": digest})
            run.begun = True  # the evaluation is done: a store that refuses it is no reason to fail
        with _ended(run):
            yield run


@contextmanager
def _ended(run: Run) -> Iterator[None]:
    """End a run as the block ends: FINISHED, KILLED by Ctrl-C or FAILED."""
    try:
        yield
    except KeyboardInterrupt:
        run.end("KILLED")
        run.close(at_once=True)
        raise
    except BaseException:
        run.end("FAILED")
        run.close()
        raise
    run.end("FINISHED")
    run.close()


def _spooled_run(root: Path, is_it: Callable[[dict[str, Any]], bool]) -> Run | None:
    """Return the spooled run that is looked for, if there is one for this store."""
    for folder in spooled(root):
        lock = spool_lock(root, folder)
        try:
            run = Run.from_spool(root, folder)
            if not is_it(run.run) or run.run["address"] != address(root):
                continue
            lock.acquire()  # once nobody uploads it
            run = Run.from_spool(root, folder)
        except FileNotFoundError:  # just uploaded by another process, or written anew by its own
            lock.release()
        except TrackingError as error:
            lock.release()
            warn(f"{folder.relative_to(root)}: {error}")
        else:
            run.lock = lock
            return run
    return None


def _new_run(stage: str, prior: str, seed: int) -> dict[str, Any]:
    experiment = os.environ.get("DVC_EXP_NAME", "")
    tags = {"stage": stage, "prior": prior, "seed": str(seed), "dvc_experiment": experiment}
    tags["threads"] = str(torch.get_num_threads())
    tags["ci"] = "true" if os.environ.get("CI") else ""
    tags |= {"mlflow.source.name": f"stages/{stage}.py", "mlflow.source.type": "LOCAL"}
    name = f"{stage} seed {seed}" if prior == "none" else f"{stage} {prior} seed {seed}"
    tags = {k: without_password(v) for k, v in (tags | _git_tags()).items() if v}
    return {"name": name, "tags": tags, "start": now()}


def _git_tags() -> dict[str, str]:
    """Commit, and whether what determines the results differs from it; nothing outside git.

    What stages write (dvc.lock, reports/) does not count: DVC has just removed it.
    """

    # Also where the user's git is told to leave out files that it does not know.
    status = ("status", "--porcelain", "--untracked-files=normal")
    commit, changes = git("rev-parse", "HEAD"), git(*status, "--", ".", ":!dvc.lock", ":!reports")
    if commit is None or changes is None:
        return {}
    return {"git_commit": commit, "git_dirty": str(bool(changes)).lower()}
