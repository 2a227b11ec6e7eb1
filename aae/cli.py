"""The command `aae`. A command imports what it needs when it runs: `aae --help` must be quick."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from aae.errors import AAEError, OutputError, without_password


class _Commands(click.Group):
    """Commands whose errors are one line."""

    def invoke(self, context: click.Context) -> Any:
        """Run a command; exit with 1 after an error that the user can put right, 130 on Ctrl-C."""
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

    The pipeline itself runs with `dvc repro`, an experiment with `dvc exp run -S prior=gamma`.
    """


@main.command()
def ui() -> None:
    """Open the experiments in MLflow's pages.

    Serves MLflow on loopback, at port 5000 or another free one, and prints the address of a page
    that lists the adversarial autoencoders, the best match first. If MLFLOW_TRACKING_URI names a
    server, prints the address of that page on it.

    \b
    Example:
      aae ui
    """
    from aae.tracking.ui import serve

    serve()


@main.command()
def sync() -> None:
    """Upload what was recorded while MLflow was away.

    Uploads the runs in mlflow-spool/ to the server and experiment that they are for, which
    MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME name as when the runs were recorded. Exits with 1
    if some could not be uploaded; they stay in mlflow-spool/.

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
@click.option("-n", "--name", help="Name of the experiments, to which their numbers are added.")
@click.option(
    "--address",
    help="Address of a running cluster, `auto` for the one of this machine; also RAY_ADDRESS. "
    "Without it, a cluster of this machine alone is started.",
)
@click.option("--cpus", default=1, show_default=True, help="Cores of a trial.")
@click.option("--gpus", default=0.0, show_default=True, help="GPUs of a trial.")
@click.option(
    "--table", type=click.Path(path_type=Path), help="Where to write the table; sweeps/NAME.csv."
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

    KEY=VALUES are parameters as for `dvc exp run --queue -S`. The results are in one table, the
    best match first. Exits with 0 if all trials succeed, with 1 if one fails or nothing could run,
    with 130 after Ctrl-C or SIGTERM.

    \b
    Examples:
      aae sweep 'prior=gaussian,gamma,uniform' 'seed=range(0,10)'
      aae sweep --address auto --cpus 2 'latent_dim=2,8'

    \b
    A cluster of several machines, each with the packages of requirements.lock:
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
@click.option("--base", metavar="REV", help="Revision to compare with.")
@click.option(
    "--accept", is_flag=True, help="Write reports/metrics/regression.json, to be committed."
)
@click.option(
    "--markdown", is_flag=False, flag_value="-", metavar="[FILE]", callback=_writable,
    help="Write a comment for a pull request; to the standard output without FILE.",
)  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=False, flag_value="-", metavar="[FILE]", callback=_writable,
    help="Write the result for machines; to the standard output without FILE.",
)  # fmt: skip
@click.option(
    "--report", "page", type=click.Path(path_type=Path), callback=_writable,
    help="Where to put the page of the run.",
)  # fmt: skip
def regression(
    base: str | None, accept: bool, markdown: str | None, as_json: str | None, page: Path | None
) -> None:
    """Check that this tree makes no metric worse.

    Runs a smaller pipeline from scratch (`regression.overrides` of params.yaml), in a copy of the
    working tree with everything that is not committed yet, and compares the metrics that
    `regression.metrics` guards with those in reports/metrics/regression.json at the merge base with
    the main branch, or at --base.

    Exits with 0 if no metric is worse by more than its tolerance, with 1 if one is, with 2 if they
    could not be compared; the last line of the output is the result.

    \b
    Examples:
      aae regression                    or: make regression
      aae regression --base v1.2        or: make regression BASE=v1.2
      aae regression --accept           or: make regression ARGS=--accept
    """
    from aae.regression.gate import run_gate

    sys.exit(run_gate(base, accept, markdown, as_json, page))
