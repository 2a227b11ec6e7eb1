"""The code that every stage script runs before and around its work."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import torch

from aae.errors import AAEError, OutputError, ParameterError, without_password
from aae.params import PARAMS, Params
from aae.pipeline.parameters import read_params
from aae.training.devices import training_device, training_precision
from aae.training.distributed import is_leader, joined
from aae.workspace import UNSHALLOW, experiment, in_copy, is_shallow, project_root


def set_arithmetic() -> None:
    """Set up torch's arithmetic for a stage; call this before the first matrix product."""
    # Adam's moments of dead units become denormal numbers, with which a CPU computes many times
    # more slowly: with the article's recipe, late epochs took twice as long.
    torch.set_flush_denormal(True)
    # This makes MKL's matrix products independent of the number of threads, to the last bit. MKL
    # reads the variable at its first use.
    # https://www.intel.com/content/www/us/en/docs/onemkl/developer-guide-linux/2025-2/obtaining-numerically-reproducible-results.html
    os.environ["MKL_CBWR"] = "AUTO,STRICT"


def set_threads() -> None:
    """Set the number of threads, unless ``OMP_NUM_THREADS`` sets it.

    An experiment of a queue, or with ``--temp``, gets one thread: DVC may run one experiment per
    core in parallel, and threads that outnumber the cores wait for each other, up to ten times
    longer than they work. Any other stage uses all cores that this process may use.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        # joblib respects affinity and the CPU quota of a container; torch does not.
        torch.set_num_threads(1 if in_copy() else min(torch.get_num_threads(), joblib.cpu_count()))


def run_stage(
    main: Callable[[Params], None], description: str | None, needs_device: bool = True
) -> None:
    """Run a stage: answer --help, check all parameters first, report an error in one line.

    Args:
        main: the work, called with the checked parameters.
        description: the text of --help, which is the script's docstring.
        needs_device: whether this stage, or one for which it prepares, trains. Any machine can run
            the others: a model that was trained on a GPU is evaluated on the CPU.

    Exits with 1 after an error that the user can fix, with 130 after Ctrl-C.
    """
    argparse.ArgumentParser(
        description=description,
        epilog="This is a stage of dvc.yaml: `dvc repro` runs it if something that it depends on "
        "has changed. Its settings are in params.yaml; to try another value, run "
        "`dvc exp run -S key=value`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    set_arithmetic()
    set_threads()
    try:
        if in_copy() and is_shallow(project_root(Path.cwd())):
            raise OutputError(UNSHALLOW)
        params = read_params(PARAMS)
        if needs_device:
            training_precision(params.precision, training_device(params.device))
        with joined():
            main(params)
    except AAEError as error:
        where = "" if is_leader() else f"rank {os.environ['RANK']}: "
        hint = ""
        if isinstance(error, ParameterError) and experiment() and not in_copy():
            hint = f"; `git restore {PARAMS}` brings back the committed parameters"
        sys.exit(f"{where}error: {without_password(str(error))}{hint}")
    except OSError as error:  # a file that the stage needs cannot be read
        if error.filename is None:
            raise
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except RuntimeError as error:  # torch has no more specific one for the memory of the CPU
        if "allocate" not in str(error):
            raise
        sys.exit(
            f"error: not enough memory: {error}; "
            "reduce batch_size, the sizes in network, or data.size"
        )
    except KeyboardInterrupt:
        if is_leader():
            print("interrupted", file=sys.stderr)
        sys.exit(130)
