"""The trainer service: CLIP on emitted datasets, asked for by a client or by a run."""
