"""The images: their sources, their splits, and their format on disk."""

from aae.data.images import Images, Source, check_source
from aae.data.known import KnownLabels, check_labels, known_labels
from aae.data.prepared import prepared_digest, prepared_meta, read_prepared, write_prepared
from aae.data.sources import read_source, show_source
from aae.data.splits import SPLITS, Split, check_counts, in_memory, split_source

__all__ = [
    "SPLITS", "Images", "KnownLabels", "Source", "Split", "check_counts", "check_labels",
    "check_source", "in_memory", "known_labels", "prepared_digest", "prepared_meta",
    "read_prepared", "read_source", "show_source", "split_source", "write_prepared",
]  # fmt: skip
