"""cvr: search conversion-rate ranking with TensorFlow, from raw logs to a served model."""

from cvr import compat as _compat
from cvr import errors as _errors

_errors.quiet_start()
_compat.install()

__version__ = "0.1.0"
