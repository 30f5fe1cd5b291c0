"""The whole job in miniature: a small real pool, curated three ways, one tiny CLIP from each."""
