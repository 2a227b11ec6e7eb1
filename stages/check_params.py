"""Check every value in params.yaml before anything else runs.

Reads params.yaml; downloads images that are not there. What `dvc exp run -S` has put there and is
refused is taken out again.
"""

from aae.data.data import fetch_source, image_root
from aae.training.devices import training_device, training_precision
from aae.training.distributed import check_launcher
from aae.params import Params
from aae.pipeline.stage import run_stage


def main(params: Params) -> None:
    """Say what is going to happen: a stage gets here with parameters that are all right."""
    device = training_device(params.device)
    precision = training_precision(params.precision, device)
    check_launcher(params.launcher)
    fetch_source(params.data.source, image_root(params.data))
    print(
        f"seed {params.seed}, {params.latent_dim}-dimensional codes, prior {params.prior}, "
        f"trainings on {device.type} in {precision}"
    )


if __name__ == "__main__":
    run_stage(main, __doc__)
