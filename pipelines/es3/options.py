"""The flags of ES3. With the defaults nothing of it happens."""

from __future__ import annotations

import dataclasses

from cvr.errors import CvrError

DOMAIN, SEARCH_DOMAIN = "domain", "search"
EXPOSURE, EXPOSED, UNEXPOSED = "exposure", "exposed", "unexposed"
"""The column of impressions that the build supplies where the log has none, and its values; DOMAIN is one that it completes."""


@dataclasses.dataclass(frozen=True)
class EntireSpace:
    """Which steps are on and how: fields are flags of `pipelines.build_lists`. Raises CvrError for values that make no sense."""

    unexposed_per_list: int = 0
    attribute_elsewhere: bool = False
    click_event: str = "click"
    searchify: tuple[str, ...] = ()
    feed_negatives: int = 10
    item_title: str = "title"
    similar_by: str = ""
    least_similarity: float = 0.0
    query_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unexposed_per_list < 0:
            raise CvrError(f"--unexposed_per_list={self.unexposed_per_list}: expected 0 (none) or more")
        if self.feed_negatives < 1:
            raise CvrError(f"--feed_negatives={self.feed_negatives}: expected at least 1; a list of one item teaches no ranking")
        if not 0.0 <= self.least_similarity <= 1.0:
            raise CvrError(f"--least_similarity={self.least_similarity}: expected a cosine between 0 and 1")
        if SEARCH_DOMAIN in self.searchify:
            raise CvrError(f"--searchify={','.join(self.searchify)}: searches are lists already; name other domains, such as feed")

    @property
    def on(self) -> bool:
        """Whether any step is on."""
        return bool(self.unexposed_per_list or self.attribute_elsewhere or self.searchify)

    @property
    def similarity_column(self) -> str:
        """The column of items by which those of a page are compared: `similar_by`, by default the title."""
        return self.similar_by or self.item_title


NOTHING = EntireSpace()
"""All steps off."""
