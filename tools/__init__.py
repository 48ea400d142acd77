"""Studies and helpers around cvr: synthetic logs, the demo, comparisons. Nothing imports this package."""
