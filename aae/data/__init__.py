"""The images: their sources, their splits, and their format on disk."""

from aae.data.images import Images, Source, check_source
from aae.data.prepared import prepared_digest, prepared_meta, read_prepared, write_prepared
from aae.data.sources import image_root, read_source
from aae.data.splits import SPLITS, split_source

__all__ = [
    "SPLITS", "Images", "Source", "check_source", "image_root", "prepared_digest",
    "prepared_meta", "read_prepared", "read_source", "split_source", "write_prepared",
]  # fmt: skip
