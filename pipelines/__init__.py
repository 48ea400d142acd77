"""Raw search logs to search lists: Beam moves Arrow batches of hash partitions, and the work inside a partition is vectorised."""

from cvr.errors import quiet_start

quiet_start()
