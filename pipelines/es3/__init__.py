"""Training lists from the entire space of samples (ES3 of UniScale, arXiv 2603.24226): items that a search did not show, signals from other
domains, and lists of other domains made like searches. docs/es3.md says what each step does; all are off by default."""
