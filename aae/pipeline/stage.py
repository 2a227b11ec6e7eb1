"""What every stage script does before and around its work."""

import argparse
import os
import sys
from collections.abc import Callable

import torch

from aae.training.distributed import is_leader, joined
from aae.errors import AAEError, ParameterError, without_password
from aae.workspace import share_cores, undo_overrides
from aae.params import PARAMS, Params, load_params


def set_arithmetic() -> None:
    """Let torch compute as in a stage; to be called before its first matrix product."""
    # Adam's moments of units that have died sink into numbers so small that the processor takes
    # many times longer over them: with the article's recipe an epoch came to take twice as long.
    torch.set_flush_denormal(True)
    # A matrix product of MKL comes out the same to the last bit with any number of threads. Read
    # when MKL is first used. https://www.intel.com/content/www/us/en/docs/onemkl/developer-guide-linux/2025-2/obtaining-numerically-reproducible-results.html
    os.environ["MKL_CBWR"] = "AUTO,STRICT"


def run_stage(main: Callable[[Params], None], description: str | None) -> None:
    """Run a stage: answer --help, check all parameters first, end errors in one line.

    Args:
        main: the work, called with the checked parameters.
        description: for --help; the script's docstring.

    Exits with 1 after an error that the user can put right, with 130 after Ctrl-C.
    """
    argparse.ArgumentParser(
        description=description,
        epilog="A stage of dvc.yaml: `dvc repro` runs it when something that it depends on has "
        "changed. All that can be set stands in params.yaml; try another value with "
        "`dvc exp run -S key=value`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    set_arithmetic()
    share_cores()
    try:
        try:
            params = load_params(PARAMS)
            with joined():
                main(params)
        except ParameterError:
            undo_overrides(PARAMS)
            raise
    except AAEError as error:
        where = "" if is_leader() else f"rank {os.environ['RANK']}: "
        sys.exit(f"{where}error: {without_password(str(error))}")
    except KeyboardInterrupt:
        if is_leader():
            print("interrupted", file=sys.stderr)
        sys.exit(130)
