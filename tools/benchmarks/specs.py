"""The two feature specs of the pipeline benchmark, for logs of `tools.benchmarks.events`.

    python -m tools.benchmarks.specs --output=DIR        writes DIR/attribution.yaml and DIR/full.yaml
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cvr.errors import run_main

FLAGS = flags.FLAGS

ATTRIBUTION = """\
# Attribution and lists alone: what the DuckDB script of the benchmark writes, and every list (nothing is censored).
dataset: attribution
tasks:
  click: {events: [click], window: 1d, censor: false}
  cart: {events: [cart], window: 1d, censor: false}
  purchase: {events: [purchase], window: 1d, censor: false, primary: true}
features:
  position: {kind: numerical, level: item, from: impression.position}
  price: {kind: numerical, level: item, from: impression.price}
  match_score: {kind: numerical, level: item, from: impression.match_score}
"""

FULL = """\
# A whole training set: aggregates by item, query and query-item, a behaviour sequence of 50, two texts of about 24 n-grams each.
dataset: full
tasks:
  click: {events: [click], window: 1d, censor: false}
  cart: {events: [cart], window: 3d, censor: false}
  purchase: {events: [purchase], window: 3d, censor: false, primary: true}
tables:
  item: {buckets: 8192, dim: 8}
  ngram: {buckets: 8192, dim: 8}
features:
  position: {kind: numerical, level: item, from: impression.position}
  price: {kind: numerical, level: item, from: impression.price}
  match_score: {kind: numerical, level: item, from: impression.match_score}
  in_stock: {kind: numerical, level: item, from: impression.in_stock}
  item: {kind: categorical, level: item, from: impression.item_id, table: item}
  category: {kind: categorical, level: item, from: item.category, embedding: {buckets: 64, dim: 4}}
  brand: {kind: categorical, level: item, from: item.brand, embedding: {buckets: 512, dim: 4}}
  device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 8, dim: 2}}
  query: {kind: categorical, level: context, from: impression.query, embedding: {buckets: 4096, dim: 8}}
  item_impressions_7d: {kind: numerical, level: item, aggregate: {by: [item], event: impression, window: 7d}}
  item_click_rate_7d: {kind: numerical, level: item, aggregate: {by: [item], event: click, per: impression, window: 7d}}
  item_purchase_rate_30d: {kind: numerical, level: item, aggregate: {by: [item], event: purchase, per: impression, window: 30d}}
  query_click_rate_7d: {kind: numerical, level: context, aggregate: {by: [query], event: click, per: impression, window: 7d}}
  pair_clicks_7d: {kind: numerical, level: item, aggregate: {by: [query, item], event: click, window: 7d}}
  pair_purchase_rate_30d: {kind: numerical, level: item, aggregate: {by: [query, item], event: purchase, per: impression, window: 30d}}
  history: {kind: sequence, level: context, history: {events: [click, cart, purchase], length: 50}, table: item}
  title: {kind: text, level: item, from: item.title, ngrams: [2, 3], table: ngram}
  query_text: {kind: text, level: context, from: impression.query, ngrams: [2, 3], table: ngram}
"""

SPECS = {"attribution": ATTRIBUTION, "full": FULL}


def write_specs(folder: Path) -> dict[str, Path]:
    """Writes each spec to `<folder>/<shape>.yaml`; gives the paths by shape."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {shape: folder / f"{shape}.yaml" for shape in SPECS}
    for shape, path in paths.items():
        path.write_text(SPECS[shape], encoding="utf-8")
    return paths


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("output", None, "Folder to write the specs to.", required=True)


def main(argv: Sequence[str]) -> None:
    """Writes the specs and prints where."""
    del argv
    for path in write_specs(Path(FLAGS.output)).values():
        print(path)


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
