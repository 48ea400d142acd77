"""Parts of `tools.importance`: sampled lists, shuffles of their features, families, and what the shuffles cost."""
