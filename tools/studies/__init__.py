"""Parts of studies: declared lists of runs that can be interrupted, repeated and farmed out, and their tables."""
