"""Read the images, check them, split them, and store them so that a training can memory-map them.

Reads the source that params.yaml names; writes data/prepared.
"""

from aae.pipeline.stage import run_stage
from aae.data import check_source, image_root, read_source, split_source, write_prepared
from aae.params import Params


def main(params: Params) -> None:
    """Prepare the data."""
    source = read_source(params.data.source, image_root(params.data))
    check_source(source)
    splits = split_source(source, params.data, params.seed)
    write_prepared(splits, params.data.source, source.class_names)
    counts = ", ".join(f"{len(part)} {name}" for name, part in splits.items())
    print(f"{params.data.source}: {counts} images")


if __name__ == "__main__":
    run_stage(main, __doc__)
