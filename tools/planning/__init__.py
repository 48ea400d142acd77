"""Parts of `tools.plan`: scaling curves and their checks, additivity, the Pareto front, candidate steps, report and plots."""
