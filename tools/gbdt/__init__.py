"""Parts of `tools.gbdt_baseline`: features as columns, boosting, and the search over its configurations."""
