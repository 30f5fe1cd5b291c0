"""Curate CLIP training data the MetaCLIP way.

From the ground up: `metadata` (entries), `matching` (texts -> hits), `balancing` (which pairs
stay), `pools` (reading raw data), `datasets` (writing and proving results), `training` (CLIP from
an emitted dataset), `rpc` (the services' contracts), `report` and `cli`.
"""

__version__ = "0.1.0"
