"""How well a score orders the items of each list: AUC and average precision within lists, vectorised over all lists of a file."""

from __future__ import annotations

import dataclasses

import numpy as np

# What a score's partial holds per task: lists with both classes, sums of AUC and its square; lists with a positive, of AP and its square.
FIELDS = ("auc_lists", "auc", "auc_squares", "ap_lists", "ap", "ap_squares")


@dataclasses.dataclass(frozen=True)
class Groups:
    """Items of equal score in a list, list by list in ascending order of score; the group without a score comes first in its list.

    `list_of` [G] is the group's list, `size` [G] its number of items, `absent` [G] whether it has no score (NaN or infinite), `of_item`
    [N] the group of each item, `lengths` [L] the items of each list.
    """

    list_of: np.ndarray
    size: np.ndarray
    absent: np.ndarray
    of_item: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, lengths: np.ndarray) -> Groups:
        """Groups of scores [N] of lists of the given lengths [L]."""
        rows = np.repeat(np.arange(len(lengths)), lengths)
        keys = (rows.astype(np.uint64) << np.uint64(32)) | _sortable(scores)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        new = np.ones(len(order), bool)
        new[1:] = ordered[1:] != ordered[:-1]
        number = np.cumsum(new) - 1
        of_item = np.empty(len(order), np.int64)
        of_item[order] = number
        first = order[new]
        return cls(
            rows[first], np.bincount(number, minlength=int(new.sum())), ~np.isfinite(scores[first]), of_item, lengths
        )

    def below(self, values: np.ndarray) -> np.ndarray:
        """Sums of values [G] over the groups below each in its list. [G]."""
        ends = np.cumsum(values)
        starts = np.append(0, ends)[np.searchsorted(self.list_of, self.list_of, side="left")]
        return ends - values - starts

    def per_list(self, values: np.ndarray) -> np.ndarray:
        """Sums of values [G] by list. [L]."""
        return np.bincount(self.list_of, weights=values, minlength=len(self.lengths))


def _sortable(scores: np.ndarray) -> np.ndarray:
    """uint64 below 2^32 that sorts as float32 scores do; scores that are NaN or infinite become 0."""
    bits = (scores.astype(np.float32) + np.float32(0.0)).view(np.uint32)
    flipped = np.where(bits >> np.uint32(31) > 0, ~bits, bits | np.uint32(0x80000000))
    return np.where(np.isfinite(scores), flipped, np.uint32(0)).astype(np.uint64)


def _totals(groups: Groups, positive: np.ndarray, below: np.ndarray, below_positive: np.ndarray) -> np.ndarray:
    """The six `FIELDS` of an order given by how many items, and positive ones, each group has below it. float64 [6]."""
    items, positives = groups.lengths.astype(np.float64), groups.per_list(positive)
    negatives = items - positives
    wins = positive * ((below - below_positive) + (groups.size - positive) / 2)
    both, any_positive = (positives > 0) & (negatives > 0), positives > 0
    auc = groups.per_list(wins)[both] / (positives * negatives)[both]
    above = items[groups.list_of] - below
    precision = (positives[groups.list_of] - below_positive) / above
    ap = groups.per_list(positive * precision)[any_positive] / positives[any_positive]
    return np.array([both.sum(), auc.sum(), (auc**2).sum(), any_positive.sum(), ap.sum(), (ap**2).sum()], np.float64)


def measure(groups: Groups, labels: np.ndarray, presence: bool = True) -> dict[str, np.ndarray]:
    """`FIELDS` of a score for one task's labels [N], by variant of what ranks first: the `highest` score, the `lowest`, items with no score
    (`absent`), items with one (`present`). Items without a score come last in the first two; the last two only where there are such items.

    AUC of a list = (pairs of a positive and a negative in order + half of the tied ones) / pairs; AP counts tied items as one step, as
    scikit-learn's `average_precision_score` does.
    """
    positive = np.bincount(groups.of_item, weights=labels, minlength=len(groups.size))
    size = groups.size.astype(np.float64)
    below, below_positive = groups.below(size), groups.below(positive)
    found = {"highest": _totals(groups, positive, below, below_positive)}
    absent, absent_positive = (groups.per_list(values * groups.absent)[groups.list_of] for values in (size, positive))
    items, positives = groups.lengths[groups.list_of], groups.per_list(positive)[groups.list_of]
    reverse, reverse_positive = (
        np.where(groups.absent, 0, total - low - own + none)
        for total, low, own, none in (
            (items, below, size, absent),
            (positives, below_positive, positive, absent_positive),
        )
    )
    found["lowest"] = _totals(groups, positive, reverse, reverse_positive)
    if presence and groups.absent.any():
        present = Groups.of(groups.absent[groups.of_item].astype(np.float32), groups.lengths)
        both = measure(present, labels, presence=False)
        found |= {"absent": both["highest"], "present": both["lowest"]}
    return found
