"""Studies and helpers around cvr: synthetic logs, the demo, comparisons. Nothing imports this package."""

from cvr.errors import quiet_start

quiet_start()
