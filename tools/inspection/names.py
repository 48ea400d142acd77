"""Names of hashed ids, found by hashing the texts of the logs that the lists were built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from cvr.records import Bag, ListColumns
from cvr.schema import Feature
from cvr.transforms import FIRST_ID, PAD, char_ngrams, hash_strings
from pipelines.features import split_values
from pipelines.normalise import ENGAGEMENTS, IMPRESSIONS, ITEMS, require_columns
from pipelines.sources import canonical, source
from pipelines.sources.files import InputFile, find_files
from pipelines.values import as_text, hash_texts
from tools.inspection.readable import Names

_ORDER = (ITEMS, IMPRESSIONS, ENGAGEMENTS)
_ORIGINS = {IMPRESSIONS: "impression", ITEMS: "item"}


class _Search:
    """Which ids of the shown lists still lack a name."""

    def __init__(self, features: Sequence[Feature], lists: Sequence[ListColumns]) -> None:
        self._features = features
        self._searches = pa.array([_text(search) for columns in lists for search in columns.search_id], pa.large_string())
        parts = [part for c in lists for part in (c.item, *(history.item for history in c.sequences.values()))]
        self._items = _real(parts)
        self._values = {f.name: _real([_ids_of(f, columns) for columns in lists]) for f in features if f.kind == "categorical"}
        self._texts = {f.name: {bag for c in lists for bag in bags_of(c.bags[f.name])} for f in features if f.kind == "text"}
        self.names = Names(values={name: {} for name in self._values}, texts={name: {} for name in self._texts})

    @property
    def done(self) -> bool:
        """Whether everything has its name."""
        names = self.names
        texts = all(self._texts[name] <= names.texts[name].keys() for name in self._texts)
        return texts and len(names.items) == len(self._items) and all(len(names.values[n]) == len(v) for n, v in self._values.items())

    def look(self, name: str, table: pa.Table) -> None:
        """Looks for names in one piece of a table of the logs."""
        items = as_text(table.column("item_id"), "item_id")
        self.names.items |= _named(items, self._items)
        if name == ENGAGEMENTS:
            return
        if name == IMPRESSIONS:
            shown = pc.is_in(as_text(table.column("search_id"), "search_id"), self._searches)
        else:
            shown = pa.array(np.isin(hash_texts(items, "item_id", PAD), self._items))
        rows = table.filter(shown)
        for feature in self._features:
            origin, _, column = (feature.column or "").partition(".")
            if origin == _ORIGINS[name] and column in rows.column_names and len(rows):
                self._look_at(feature, as_text(rows.column(column), column))

    def _look_at(self, feature: Feature, texts: pa.Array) -> None:
        if feature.kind == "text":
            distinct = pc.unique(texts.drop_null()).to_pylist()
            ngrams = char_ngrams(distinct, feature.ngrams, feature.max_chars).to_list() if distinct else []
            found = {tuple(ids): text for ids, text in zip(ngrams, distinct, strict=True)}
            self.names.texts[feature.name] |= {bag: text for bag, text in found.items() if bag in self._texts[feature.name]}
        elif feature.separator is not None:
            parts = [part for text in pc.unique(texts.drop_null()).to_pylist() for part in split_values(text, feature.separator)]
            self.names.values[feature.name] |= _named(pa.array(parts, pa.large_string()), self._values[feature.name])
        else:
            self.names.values[feature.name] |= _named(texts, self._values[feature.name])


def bags_of(bag: Bag) -> list[tuple[int, ...]]:
    """The ids of each row; those without a value, which hold one reserved id or none, are left out."""
    rows = np.split(bag.values, np.cumsum(bag.lengths)[:-1])
    return [tuple(row.tolist()) for row in rows if len(row) and row[0] >= FIRST_ID]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def _real(parts: Iterable[np.ndarray]) -> np.ndarray:
    ids = np.unique(np.concatenate([*parts, np.zeros(0, np.int64)]))
    return ids[ids >= FIRST_ID]


def _ids_of(feature: Feature, columns: ListColumns) -> np.ndarray:
    return columns.bags[feature.name].values if feature.ragged else columns.cat[feature.name]


def _named(texts: pa.Array, wanted: np.ndarray) -> dict[int, str]:
    """Names of the wanted ids among texts."""
    distinct = pc.unique(texts.drop_null())
    if not len(distinct) or not len(wanted):
        return {}
    ids = hash_strings(distinct.to_numpy(zero_copy_only=False)).numpy()
    hits = np.flatnonzero(np.isin(ids, wanted))
    return dict(zip(ids[hits].tolist(), distinct.take(pa.array(hits)).to_pylist(), strict=True))


def find_names(features: Sequence[Feature], lists: Sequence[ListColumns], logs: str, source_name: str) -> Names:
    """Names of the ids in some lists, as far as the logs have them.

    Args:
      features: the features that are shown.
      lists: the lists.
      logs: the logs that `source_name` reads, or only their table of items: a file, or a folder of files.
      source_name: the source that the lists were built from, as in the manifest.

    Raises CvrError where there are no such logs or a file cannot be read.
    """
    search = _Search([f for f in features if f.kind in ("categorical", "text")], lists)
    read, files = _reader(logs, source_name)
    columns = {origin: {_column(f, origin) for f in features} - {""} for origin in ("impression", "item")}
    wanted = {IMPRESSIONS: columns["impression"], ITEMS: columns["item"], ENGAGEMENTS: set()}
    for file in sorted(files, key=lambda f: _ORDER.index(f.table) if f.table else 0):
        for name, table in read(file, wanted):
            require_columns(name, table.column_names, file.path)
            search.look(name, table)
            if search.done:
                return search.names
    return search.names


def _column(feature: Feature, origin: str) -> str:
    start, _, column = (feature.column or "").partition(".")
    return column if start == origin else ""


def _reader(logs: str, source_name: str) -> tuple[Callable, list[InputFile]]:
    """How to read logs, and their files; a canonical log may be its table of items alone."""
    if source_name == "canonical" and not FileSystems.exists(FileSystems.join(logs, IMPRESSIONS)):
        try:
            inside = FileSystems.join(logs, ITEMS)
            paths = find_files(inside if FileSystems.exists(inside) else logs, canonical.SUFFIXES)
        except CvrError as error:
            raise CvrError(str(error).replace("--input=", "--logs=")) from error
        return canonical.read, [InputFile(path, ITEMS) for path in paths]
    try:
        return source(source_name).read, source(source_name).find(logs)
    except CvrError as error:
        raise CvrError(str(error).replace("--input=", "--logs=")) from error
