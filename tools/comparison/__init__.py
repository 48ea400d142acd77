"""Parts of `tools.compare`: statistics of paired differences, evaluations and their slices, and the forest plot."""
