"""The page that a demo run ends with: figures of the data, the training and the ranking, in one self-contained file."""
