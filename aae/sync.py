"""Upload what was recorded while MLflow was away: `python -m aae.sync`."""

import argparse
import sys
from pathlib import Path

from aae.errors import TrackingError
from aae.experiments import address, locked, project_root
from aae.spool import load_spooled, remove_spooled, save_spooled, spooled
from aae.tracking import StoreAwayError, connect

NO_USE = "delete that folder if it is of no use"


def sync(root: Path) -> tuple[int, list[str]]:
    """Upload the spooled runs, the oldest first; what the store has not taken stays spooled.

    Returns:
        How many were uploaded, and of each one that was not, why.

    Raises:
        StoreAwayError: if the store does not answer.
    """
    count, left = 0, []
    with locked(root, "spool"):
        for folder in spooled(root):
            name = folder.relative_to(root)
            try:
                run, records = load_spooled(folder)
            except FileNotFoundError:  # just uploaded by a training that has ended
                continue
            except TrackingError as error:
                left.append(f"{name}: {error}; {NO_USE}")
                continue
            if run["address"] != address(root):
                left.append(
                    f"{name} is for {run['address']}: set MLFLOW_TRACKING_URI and "
                    "MLFLOW_EXPERIMENT_NAME accordingly"
                )
                continue
            try:
                connect(root).write(run, records)
            except TrackingError as error:
                save_spooled(folder, run, records)
                left.append(f"{name}: {error}; {NO_USE}")
            except BaseException:  # also Ctrl-C: what has been uploaded is not to be so twice
                save_spooled(folder, run, records)
                raise
            else:
                remove_spooled(folder)
                count += 1
    return count, left


def main() -> None:
    """Upload the runs in mlflow-spool/ to the server and experiment that they are for.

    MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME name them, as when the runs were recorded.
    """
    parser = argparse.ArgumentParser(prog="python -m aae.sync", description=main.__doc__)
    parser.parse_args()
    try:
        count, left = sync(project_root(Path.cwd()))
    except (StoreAwayError, TrackingError) as error:
        sys.exit(f"error: {error}")
    print(f"{count} run{'' if count == 1 else 's'} uploaded")
    if left:
        sys.exit("\n".join(f"error: {reason}" for reason in left))


if __name__ == "__main__":
    main()
