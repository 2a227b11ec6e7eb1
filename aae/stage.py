"""What every stage script does before and around its work."""

import argparse
import sys
from collections.abc import Callable

import torch

from aae.errors import AAEError
from aae.params import Params, load_params


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
    # Adam's moments of units that have died sink into numbers so small that the processor takes
    # many times longer over them: with the article's recipe an epoch came to take twice as long.
    torch.set_flush_denormal(True)
    try:
        main(load_params())
    except AAEError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
