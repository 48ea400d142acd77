"""What the paper published (PAPERS 1.4), as data."""

from __future__ import annotations

TABLE_1: dict[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]] = {
    ("dcnv2", "cross width"): ((0.00, 0.12, 0.18, 0.18), (0.00, -1.85, -13.89, -39.63)),
    ("dcnv2", "deep width"): ((0.00, -0.01, 0.10, 0.15), (0.00, -7.41, -16.85, -38.33)),
    ("masknet", "cross width"): ((0.23, 0.40, 0.52, 0.64), (0.93, 3.70, -0.93, -27.13)),
    ("masknet", "deep width"): ((0.55, 0.52, 0.53, 0.54), (0.00, -0.93, -14.63, -18.61)),
    ("masknet", "parallel blocks"): ((0.50, 0.52, 0.56, 0.60), (5.56, -0.93, -19.81, -31.30)),
    ("masknet", "sequential blocks"): ((0.51, 0.51, 0.53, 0.42), (-7.59, 0.00, -13.43, -28.61)),
    ("transformer", "d_model"): ((-0.01, 0.21, 0.25, 0.26), (-1.85, 0.93, -13.89, -33.33)),
    ("transformer", "sequence length"): ((-0.01, 0.18, 0.33, 0.46), (-1.85, -10.65, -18.33, -52.13)),
    ("transformer", "layers"): ((-0.03, -0.01, 0.01, -0.03), (14.81, -1.85, -10.83, -22.04)),
    ("transformer", "heads"): ((-0.01, -0.01, -0.02, 0.01), (0.93, -1.85, -14.91, -10.00)),
    ("transformer", "ffn_dim"): ((-0.02, -0.01, -0.03, -0.04), (5.56, -1.85, -12.22, 2.78)),
    ("rankmixer", "d_model"): ((0.17, 0.37, 0.50, 0.53), (-0.93, -20.09, -33.24, -51.11)),
    ("rankmixer", "sequence length"): ((-0.02, 0.17, 0.34, 0.32), (0.00, -0.93, -22.69, -41.76)),
    ("rankmixer", "layers"): ((0.15, 0.17, 0.20, 0.21), (-3.70, -0.93, -14.26, -27.04)),
    ("rankmixer", "ffn_dim"): ((0.19, 0.17, 0.16, 0.17), (-7.78, -0.93, -5.56, -2.78)),
}
"""Change of mAP and of training throughput, both in percent of the default DCN-V2, of V1..V4; FLOPs are in `tools.table1_flops`."""

TABLE_2 = {"masknet": (47.90, 52.10), "rankmixer": (46.14, 53.86), "transformer": (44.03, 55.97), "dcnv2": (42.36, 57.64)}
"""Shares in percent of the importance of customer embeddings with engagement and with understanding."""

TABLE_3 = {1: (0.0, 0.05, 0.10, 0.12), 10: (0.02, 0.09, 0.13, 0.16)}
"""Change of mAP in percent by vocabulary (1x, 10x), of item embeddings of 16, 32, 64 and 128."""

TABLE_4 = {300: (1.00, 0.97), 400: (1.02, 1.02), 500: (1.05, 1.03)}
"""Change of mAP in percent by days of data: embeddings present on all days, and on the most recent 300 only."""

TABLE_5 = {"data": 0.47, "backbone": 0.10, "embedding": 0.13, "data+backbone+embedding": 0.74}
"""Change of mAP in percent."""
