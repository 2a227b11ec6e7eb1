"""Upload what was recorded while MLflow was away: `python -m aae.tracking.sync`."""

import argparse
import sys
from pathlib import Path

from filelock import Timeout

from aae.errors import AAEError, TrackingError
from aae.workspace import address, locked, project_root
from aae.tracking.spool import load_spooled, remove_spooled, save_spooled, spool_lock, spooled
from aae.tracking.store import StoreAwayError, connect

NO_USE = "delete that folder if it is of no use"


def sync(root: Path) -> tuple[int, list[str]]:
    """Upload the spooled runs, the oldest first; what the store has not taken stays spooled.

    Returns:
        How many were uploaded, and of each one that was not, why.

    Raises:
        StoreAwayError: if the store does not answer.
        OutputError: if what it has not taken cannot be spooled again.
    """
    count, left = 0, []
    with locked(root, "spool"):
        for folder in spooled(root):
            lock, name = spool_lock(root, folder), folder.relative_to(root)
            try:
                lock.acquire(blocking=False)
                _upload(root, folder)
                count += 1
            except Timeout:
                left.append(f"{name}: it is of a stage at work, which uploads it itself")
            except FileNotFoundError:  # just uploaded by a training that has ended
                continue
            except TrackingError as error:
                left.append(f"{name}: {error}")
            finally:
                lock.release()
    return count, left


def _upload(root: Path, folder: Path) -> None:
    try:
        run, records = load_spooled(folder)
    except TrackingError as error:
        raise TrackingError(f"{error}; {NO_USE}") from error
    if run["address"] != address(root):
        raise TrackingError(
            f"it is for {run['address']}: set MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME "
            "accordingly"
        )
    store = connect(root)
    try:
        store.write(run, records)
    except BaseException as error:  # also Ctrl-C: what has been uploaded is not to be so twice
        save_spooled(folder, run, records)
        if isinstance(error, TrackingError):
            raise TrackingError(f"{error}; {NO_USE}") from error
        raise
    remove_spooled(folder)


def main() -> None:
    """Upload the runs in mlflow-spool/ to the server and experiment that they are for.

    MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME name them, as when the runs were recorded.
    """
    parser = argparse.ArgumentParser(prog="python -m aae.tracking.sync", description=main.__doc__)
    parser.parse_args()
    try:
        count, left = sync(project_root(Path.cwd()))
    except (StoreAwayError, AAEError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    print(f"{count} run{'' if count == 1 else 's'} uploaded")
    if left:
        sys.exit("\n".join(f"error: {reason}" for reason in left))


if __name__ == "__main__":
    main()
