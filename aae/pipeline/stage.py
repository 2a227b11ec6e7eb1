"""What every stage script does before and around its work."""

import argparse
import os
import sys
from collections.abc import Callable

import joblib
import torch

from aae.errors import AAEError, ParameterError, without_password
from aae.params import PARAMS, Params
from aae.pipeline.parameters import read_params
from aae.training.devices import training_device, training_precision
from aae.training.distributed import is_leader, joined
from aae.workspace import experiment, in_copy


def set_arithmetic() -> None:
    """Let torch compute as it does in a stage; to be called before the first matrix product."""
    # Adam's moments of dead units become denormal numbers, with which a CPU computes many times
    # more slowly: with the article's recipe an epoch came to take twice as long.
    torch.set_flush_denormal(True)
    # Makes matrix products of MKL independent of the number of threads, to the last bit. MKL reads
    # it at its first use.
    # https://www.intel.com/content/www/us/en/docs/onemkl/developer-guide-linux/2025-2/obtaining-numerically-reproducible-results.html
    os.environ["MKL_CBWR"] = "AUTO,STRICT"


def set_threads() -> None:
    """Set the number of threads, unless ``OMP_NUM_THREADS`` does.

    A queued experiment gets one: DVC may run as many side by side as there are cores, and threads
    that outnumber the cores wait for each other, up to ten times longer than they work. Any other
    stage gets all cores that this process may use.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        # joblib respects affinity and the CPU quota of a container, torch does not.
        torch.set_num_threads(1 if in_copy() else min(torch.get_num_threads(), joblib.cpu_count()))


def run_stage(main: Callable[[Params], None], description: str | None) -> None:
    """Run a stage: answer --help, check all parameters first, end errors in one line.

    Args:
        main: the work, called with the checked parameters.
        description: the text of --help; the script's docstring.

    Exits with 1 after an error that the user can put right, with 130 after Ctrl-C.
    """
    argparse.ArgumentParser(
        description=description,
        epilog="This is a stage of dvc.yaml: `dvc repro` runs it when something that it depends on "
        "has changed. Its settings are in params.yaml; try another value with "
        "`dvc exp run -S key=value`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    set_arithmetic()
    set_threads()
    try:
        params = read_params(PARAMS)
        training_precision(params.precision, training_device(params.device))
        with joined():
            main(params)
    except AAEError as error:
        where = "" if is_leader() else f"rank {os.environ['RANK']}: "
        hint = ""
        if isinstance(error, ParameterError) and experiment() and not in_copy():
            hint = f"; `git restore {PARAMS}` brings back the committed parameters"
        sys.exit(f"{where}error: {without_password(str(error))}{hint}")
    except KeyboardInterrupt:
        if is_leader():
            print("interrupted", file=sys.stderr)
        sys.exit(130)
