"""The sampler service: freezes counts, makes emissions in two passes, serves their pairs."""
