"""The steps of `python -m pipelines.backfill`."""
