"""Read the images, check them, split them, and store them so that a training can memory-map them.

Reads the source that params.yaml names; writes data/prepared. It also writes data/source.link, by
which DVC notices that images have changed.
"""

from aae.pipeline.stage import run_stage
from aae.data import (
    check_counts,
    check_labels,
    check_source,
    read_source,
    show_source,
    split_source,
    write_prepared,
)
from aae.params import Params
from aae.progress import show_steps


def main(params: Params) -> None:
    """Prepare the data."""
    source = read_source(params.data, show_steps)
    check_source(source)
    splits = split_source(source, params.data, params.seed)
    check_labels(splits["train"].labels, len(source.class_names), params)
    check_counts(splits)
    write_prepared(splits, source)
    show_source(params.data)
    counts = ", ".join(f"{len(part)} {name}" for name, part in splits.items())
    print(f"{source.name}: {counts} images of shape {source.train.shape}")


if __name__ == "__main__":
    run_stage(main, __doc__)
