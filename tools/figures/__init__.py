"""Figures of the models' structure, drawn as SVG: `python -m tools.figures.draw`."""
