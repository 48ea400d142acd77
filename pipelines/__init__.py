"""Raw search logs to search lists: Beam moves Arrow batches of hash partitions, and the work inside a partition is vectorised."""
