"""Benchmarks of the project's parts: seeded inputs, variants run in processes of their own, goals beside what was reached."""
