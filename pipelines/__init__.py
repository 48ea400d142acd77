"""Raw search logs to search lists: Beam moves Arrow batches of hash partitions, and the work inside a partition is vectorised."""

import logging

from cvr.errors import quiet_start


def _is_news(record: logging.LogRecord) -> bool:
    """Beam warns whenever it is imported without its Google Cloud extra, whose BigQuery client nothing here uses."""
    return not record.getMessage().startswith("apitools not found")


logging.getLogger().addFilter(_is_news)
quiet_start()
