"""The synthetic shop behind `python -m tools.make_logs`: a known world that writes canonical logs and its own truth."""
