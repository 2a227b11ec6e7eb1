"""The command `aae`. Each command imports what it needs when it runs, so `aae --help` is quick."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from aae.errors import AAEError, OutputError, without_password


class _Commands(click.Group):
    """Commands that report an error in one line."""

    def invoke(self, context: click.Context) -> Any:
        """Run a command; exit with 1 after an error that the user can fix, with 130 on Ctrl-C."""
        try:
            return super().invoke(context)
        except AAEError as error:
            sys.exit(f"error: {without_password(str(error))}")
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aae", message="aae %(version)s")
def main() -> None:
    """Adversarial autoencoders: a reproducible pipeline, with experiment tracking.

    `dvc repro` runs the pipeline itself, `dvc exp run -S prior=gamma` runs an experiment.
    """


@main.command()
def ui() -> None:
    """Open the experiments in MLflow's pages.

    Serves MLflow on loopback, at port 5000 or another free one, and prints the address of a page
    that lists the adversarial autoencoders, with the best match first. If MLFLOW_TRACKING_URI names
    a server, the command only prints the address of that page on the server.

    \b
    Example:
      aae ui
    """
    from aae.tracking.ui import serve

    serve()


@main.command()
def sync() -> None:
    """Upload what was recorded while MLflow was unreachable.

    Uploads the runs in mlflow-spool/ to their server and experiment. MLFLOW_TRACKING_URI and
    MLFLOW_EXPERIMENT_NAME must have the same values as when the runs were recorded. Exits with 1 if
    some runs could not be uploaded; they stay in mlflow-spool/.

    \b
    Example:
      MLFLOW_TRACKING_URI=https://mlflow.example.org aae sync
    """
    from aae.tracking.spool import sync as upload
    from aae.workspace import project_root

    count, left = upload(project_root(Path.cwd()))
    click.echo(f"{count} folder{'' if count == 1 else 's'} of mlflow-spool/ uploaded")
    if left:
        sys.exit("\n".join(f"error: {reason}" for reason in left))


@main.command()
@click.argument("overrides", nargs=-1, required=True, metavar="KEY=VALUES…")
@click.option("-n", "--name", help="Name of the experiments; the sweep adds a number to each.")
@click.option(
    "--address",
    help="Address of a running cluster, or `auto` for that of this machine; RAY_ADDRESS does the "
    "same. Without an address, the sweep starts a cluster on this machine alone.",
)
@click.option("--cpus", default=1, show_default=True, help="Cores for each trial.")
@click.option("--gpus", default=0.0, show_default=True, help="GPUs for each trial.")
@click.option(
    "--table", type=click.Path(path_type=Path), help="File for the table; default sweeps/NAME.csv."
)
def sweep(
    overrides: tuple[str, ...],
    name: str | None,
    address: str | None,
    cpus: int,
    gpus: float,
    table: Path | None,
) -> None:
    """Run all combinations of parameters on a Ray cluster.

    KEY=VALUES are parameters as for `dvc exp run --queue -S`. One table shows all results, with the
    best match first. Exits with 0 if all trials succeed, with 1 if one fails or nothing could run,
    with 130 after Ctrl-C or SIGTERM.

    \b
    Examples:
      aae sweep 'prior=gaussian,gamma,uniform' 'seed=range(0,10)'
      aae sweep --address auto --cpus 2 'latent_dim=2,8'

    \b
    To start a cluster of several machines, each with the packages of requirements.lock:
      ray start --head --port 6379      here, and on each of the others,
      ray start --address HOST:6379     with a copy of this machine's ~/.ray/auth_token
    """
    from rich.console import Console

    from aae.sweep.sweep import draw
    from aae.sweep.sweep import sweep as run

    name = name or time.strftime("sweep-%Y%m%d-%H%M%S")
    path = table or Path("sweeps", f"{name}.csv")
    rows = run(name, overrides, address, cpus, gpus, path)
    Console().print(draw(rows))
    failed = int(rows["error"].notna().sum())
    click.echo(f"{len(rows) - failed} of {len(rows)} trials succeeded: {path}", err=True)
    sys.exit(int(failed > 0))


def _writable(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    from aae.files import check_writable

    try:
        if value not in (None, "-"):
            check_writable(Path(value))
    except OutputError as error:
        raise click.UsageError(str(error)) from error
    return value


@main.command()
@click.option("--base", metavar="REV", help="Revision to compare with; default the merge base.")
@click.option(
    "--accept", is_flag=True, help="Write reports/metrics/regression.json, for you to commit."
)
@click.option(
    "--markdown", is_flag=False, flag_value="-", metavar="[FILE]", callback=_writable,
    help="Write a comment for a pull request to FILE, or else to the standard output.",
)  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=False, flag_value="-", metavar="[FILE]", callback=_writable,
    help="Write the result as JSON to FILE, or else to the standard output.",
)  # fmt: skip
@click.option(
    "--report", "page", type=click.Path(path_type=Path), callback=_writable,
    help="File for the page of the run.",
)  # fmt: skip
def regression(
    base: str | None, accept: bool, markdown: str | None, as_json: str | None, page: Path | None
) -> None:
    """Check that this tree makes no metric worse.

    Trains and evaluates a smaller pipeline anew (`regression.overrides` of params.yaml), in a copy
    of the working tree that includes uncommitted changes. Compares the metrics that
    `regression.metrics` guards with those in reports/metrics/regression.json at the merge base with
    the main branch, or at --base.

    Exits with 0 if no metric is worse by more than its tolerance, with 1 if one is, with 2 if the
    metrics could not be compared. The last line of the output states the result.

    \b
    Examples:
      aae regression                    or: make regression
      aae regression --base v1.2        or: make regression BASE=v1.2
      aae regression --accept           or: make regression ARGS=--accept
    """
    from aae.regression.gate import run_gate

    sys.exit(run_gate(base, accept, markdown, as_json, page))
