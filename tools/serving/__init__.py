"""Load on a served model, its measurement, and its simulation: parts of the load test, tuning, planning and the soak."""
