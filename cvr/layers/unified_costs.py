"""Multiply-adds of stacked unified attention: what a list costs once and what each of its items does."""

from __future__ import annotations

import dataclasses

from cvr.layers.candidate_attention import CandidateAttention
from cvr.layers.dual_alignment import DualAlignment
from cvr.layers.profile_attention import ProfileAttention
from cvr.layers.unified_factors import UnifiedFactors


@dataclasses.dataclass(frozen=True)
class UnifiedCosts:
    """Of L blocks over K events and P profile tokens, D wide. A = 4 D^2 + 2 K D, C = 2 D^2 + 2 P D, G = 3 D floor(D / 4), F = 3 D^2 hidden.

    An item costs A + C + G + F in each block; a list, in each but the last, K (4 D^2 + C + G + F) + 2 D (pairs of events) and 2 P D^2 for
    the profile's keys, and in the last the keys alone. Up to T - 1 empty places in its tiles cost 2 (K + P) D each. From the first gate of
    `sample` on, each item has all of that for itself.
    """

    factors: UnifiedFactors
    length: int
    tokens: int

    @property
    def _feed(self) -> int:
        return 3 * self.factors.hidden * self.factors.width**2

    @property
    def _gate(self) -> int:
        return DualAlignment.multiply_adds(1, self.factors.width) if self.tokens else 0

    @property
    def _place(self) -> int:
        """Of a place of a tile."""
        width = self.factors.width
        return CandidateAttention.place_multiply_adds(self.length, width) + ProfileAttention.place_multiply_adds(self.tokens, width)

    @property
    def _query(self) -> int:
        """Of a token's attention to the profile."""
        return ProfileAttention.query_multiply_adds(self.tokens, self.factors.width) if self.tokens else 0

    @property
    def _candidate(self) -> int:
        return CandidateAttention.candidate_multiply_adds(self.length, self.factors.width) + self._query + self._gate + self._feed

    def _attended(self, whole: bool) -> int:
        """A history's keys and those of its profile; and, where it attends itself, up to its cross-attention."""
        factors, length = self.factors, self.length
        keys = CandidateAttention.keys_multiply_adds(length, factors.width)
        keys += ProfileAttention.tokens_multiply_adds(self.tokens, factors.width)
        if not whole:
            return keys
        attention = CandidateAttention(factors.heads, factors.window, factors.dilation)
        return keys + attention.history_multiply_adds(length, factors.width) + length * self._query

    @property
    def per_list(self) -> int:
        """Once per list."""
        return self._split[0]

    @property
    def per_item(self) -> int:
        """Per item."""
        return self._split[1]

    @property
    def _split(self) -> tuple[int, int]:
        apart = self.factors.gate == "sample" and self.tokens > 0
        lists = items = 0
        for block in range(self.factors.layers):
            last = block == self.factors.layers - 1
            history = self._attended(whole=not last or apart)
            rest = 0 if last else self.length * (self._feed + (0 if apart else self._gate))
            items += self._candidate
            if apart:
                items += rest + (history if block else 0)
                lists += 0 if block else history + (self.factors.tile - 1) * self._place
            else:
                lists += history + rest + (self.factors.tile - 1) * self._place
        return lists, items
