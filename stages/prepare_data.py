"""Read the images, check them, split them, and store them so that a training can memory-map them.

Reads the source that params.yaml names; writes data/prepared. DVC cannot watch the images, since
they may be anywhere. It therefore runs this stage every time, and the stage ends at once if nothing
has changed.
"""

import hashlib
import json

from aae.pipeline.stage import run_stage
from aae.data import (
    check_counts,
    check_source,
    is_prepared,
    read_source,
    remember_prepared,
    source_digest,
    split_source,
    write_prepared,
)
from aae.files import tree_digest
from aae.params import Params
from aae.pipeline.parameters import dependencies, stage_parameters
from aae.progress import show_steps


def main(params: Params) -> None:
    """Prepare the data."""
    key = everything(params)
    if is_prepared(key):
        print(f"{params.data.source}: the images have not changed")
        return
    source = read_source(params.data, show_steps)
    check_source(source)
    splits = split_source(source, params.data, params.seed)
    check_counts(splits)
    write_prepared(splits, source)
    remember_prepared(key)
    counts = ", ".join(f"{len(part)} {name}" for name, part in splits.items())
    print(f"{source.name}: {counts} images of shape {source.train.shape}")


def everything(params: Params) -> str:
    """Return a digest of all that determines data/prepared: images, parameters and code."""
    stage = "prepare_data"
    values = json.dumps(stage_parameters(stage, params), sort_keys=True)
    code = tree_digest(*dependencies(stage))
    return hashlib.sha256(f"{values} {code} {source_digest(params.data)}".encode()).hexdigest()


if __name__ == "__main__":
    run_stage(main, __doc__)
