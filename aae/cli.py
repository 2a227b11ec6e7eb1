"""The command `aae`. Each command imports what it needs when it runs, so `aae --help` is quick."""

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aae.errors import AAEError, OutputError, without_password

if TYPE_CHECKING:
    from aae.commands import Load


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


def _for_a_model(command: Callable[..., None]) -> Any:
    """Add the options that choose a trained model; the command gets a function that loads it."""

    @functools.wraps(command)
    def with_model(model: str, device: str, own: str | None, **arguments: Any) -> None:
        import aae

        command(**arguments, load=functools.partial(aae.load, model, device, own))

    for option in (
        click.option(
            "--own", metavar="FUNCTION",
            help="Dotted name of the function that made the networks, if they are your own.",
        ),
        click.option(
            "--device", default="cpu", show_default=True, help="cpu, cuda, or cuda:1 and so on."
        ),
        click.option(
            "--model", default="models/aae.safetensors", show_default=True,
            help="Model file, or the address of a model in MLflow: models:/… or runs:/….",
        ),
    ):  # fmt: skip
        with_model = option(with_model)
    return with_model


_PATHS = click.argument(
    "paths", nargs=-1, required=True, metavar="PATHS…", type=click.Path(path_type=Path)
)


def _label(text: str) -> Any:
    """Return the option for the class of pictures."""
    return click.option("--label", metavar="CLASS", help=text)


# For the commands that reconstruct pictures.
_LABEL_OF_PICTURES = _label(
    "Class that the pictures are decoded with, for a model whose decoder takes classes; by default "
    "the one that the encoder finds, if it finds any."
)


def _output(text: str, kind: type = Path) -> Any:
    """Return the option for the output of a command: a path, or a str that may be `-`."""
    # Resolved, so that the file that a link names is replaced, and not the link.
    path = click.Path(resolve_path=True, allow_dash=kind is str, path_type=kind)
    return click.option("-o", "--output", required=True, type=path, help=text)


@main.command()
@_PATHS
@_output("File for the codes; `-` is the standard output.", str)
@click.option(
    "--format", "kind", type=click.Choice(["csv", "npy"]),
    help="csv: columns file, class (if the encoder finds it), z1, z2, … · npy: an array [N, d] in "
    "the same order. By default npy if the output ends in .npy, else csv.",
)  # fmt: skip
@_for_a_model
def encode(paths: tuple[Path, ...], output: str, kind: str | None, load: "Load") -> None:
    """Write the codes of pictures.

    PATHS are picture files, or folders, which are searched with all folders in them. A picture of
    another size than the model's is cropped in its centre and resized. A file that cannot be read
    is named and passed over; the command then exits with 1.

    \b
    Examples:
      aae encode pictures -o codes.csv
      aae encode one.png two.jpg -o - --model models:/MODEL_ID
    """
    from aae import commands

    commands.encode(load, paths, output, kind)


@main.command()
@_PATHS
@_output("CSV file for the classes; `-` is the standard output.", str)
@_for_a_model
def classify(paths: tuple[Path, ...], output: str, load: "Load") -> None:
    """Write the classes of pictures, or their clusters.

    PATHS are as for `aae encode`, and the files stay in their order. The columns are: file; class,
    the likeliest one; probability, that of this class; and one column for each class, with its
    probability. A model of labels.use: semi-supervised finds classes, and one of clusters finds
    clusters, which are numbered from 0 on.

    \b
    Examples:
      aae classify pictures -o classes.csv
      aae classify one.png two.jpg -o -
    """
    from aae import commands

    commands.classify(load, paths, output)


@main.command()
@click.argument("codes", metavar="CODES")
@_label(
    "Class of all pictures, for a model whose decoder takes classes; instead of a column class."
)
@_output("New or empty folder for the pictures.")
@_for_a_model
def decode(codes: str, label: str | None, output: Path, load: "Load") -> None:
    """Write the pictures that codes decode to.

    CODES is a CSV file with columns z1, z2, … in full precision, as `aae encode` writes it, or an
    array [N, d] in an .npy file; `-` is CSV from the standard input. The pictures have the names in
    the column `file`, with the suffix .png; without that column, they are numbered. A decoder that
    takes classes needs the column `class`, or --label.

    \b
    Examples:
      aae decode codes.csv -o decoded
      aae decode codes.csv --label 3 -o threes
    """
    from aae import commands

    commands.decode(load, codes, label, output)


@main.command()
@click.option(
    "-n", default=64, show_default=True, type=click.IntRange(1, 1_000_000),
    help="Number of pictures.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of the samples.")
@_label("Class of the samples, for a model that is trained with classes; by default random ones.")
@click.option(
    "--grid",
    is_flag=True,
    help="Write one picture of all samples. If the model is trained with classes and there is no "
    "--label, each row is one class, and -n is rounded up to whole rows.",
)
@_output("New or empty folder for the pictures; with --grid a picture file.")
@_for_a_model
def sample(n: int, seed: int, label: str | None, grid: bool, output: Path, load: "Load") -> None:
    """Write pictures that are decoded from samples of the prior.

    The same seed gives the same styles for every class, and so each column of a grid of classes has
    one style.

    \b
    Examples:
      aae sample -n 64 --grid -o grid.png
      aae sample -n 1000 --seed 1 -o samples
      aae sample -n 10 --label 3 -o threes
    """
    from aae import commands

    commands.sample(load, n, seed, label, grid, output)


@main.command()
@_PATHS
@_LABEL_OF_PICTURES
@click.option("--grid", is_flag=True, help="Write one picture: each with its reconstruction.")
@_output("New or empty folder for the pictures; with --grid a picture file.")
@_for_a_model
def reconstruct(
    paths: tuple[Path, ...], label: str | None, grid: bool, output: Path, load: "Load"
) -> None:
    """Write the pictures that the codes of pictures decode to.

    PATHS are as for `aae encode`. The output has the same folders and names, with the suffix .png.

    \b
    Examples:
      aae reconstruct pictures -o reconstructed
      aae reconstruct pictures --grid -o pairs.png
    """
    from aae import commands

    commands.reconstruct(load, paths, label, grid, output)


@main.command()
@_PATHS
@_LABEL_OF_PICTURES
@_output("CSV file for the scores; `-` is the standard output.", str)
@_for_a_model
def score(paths: tuple[Path, ...], label: str | None, output: str, load: "Load") -> None:
    """Write how unusual pictures are.

    PATHS are as for `aae encode`. The picture with the highest reconstruction error is first. The
    columns are: file; reconstruction_error, the mean squared difference per pixel between picture
    and reconstruction, with values from 0 to 1; typicality, the share of prior samples whose
    density is not higher than that at the picture's code. A small typicality means that the code
    lies far out.

    \b
    Example:
      aae score pictures -o scores.csv
    """
    from aae import commands

    commands.score(load, paths, label, output)


@main.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--steps", default=9, show_default=True, type=click.IntRange(2, 1000),
    help="Pictures in the row.",
)  # fmt: skip
@_LABEL_OF_PICTURES
@_output("Picture file for the row.")
@_for_a_model
def interpolate(
    a: Path, b: Path, steps: int, label: str | None, output: Path, load: "Load"
) -> None:
    """Write a row of pictures from one picture to another.

    They are decoded from codes on the straight path between the codes of A and B, and, if the
    encoder finds classes, between their probabilities.

    \b
    Example:
      aae interpolate one.png two.png --steps 9 -o row.png
    """
    from aae import commands

    commands.interpolate(load, a, b, steps, label, output)


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
