"""From a trained run to a served model: SavedModel, parity gate, local gRPC server and client."""

from cvr.errors import quiet_start

quiet_start()
