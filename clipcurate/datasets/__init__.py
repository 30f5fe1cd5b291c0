"""From match indexes to the emitted dataset: files, manifest, verification, reading."""
