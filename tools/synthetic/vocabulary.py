"""Words of the synthetic shop; every noun, attribute and budget word has a Latin and a Hangul form."""

from __future__ import annotations

import numpy as np

NOUNS = (
    ("sneakers", "운동화"), ("backpack", "배낭"), ("headphones", "헤드폰"), ("kettle", "주전자"), ("blanket", "담요"),
    ("lamp", "조명"), ("shampoo", "샴푸"), ("notebook", "공책"), ("tent", "텐트"), ("jacket", "재킷"), ("rice", "쌀"),
    ("coffee", "커피"), ("toothbrush", "칫솔"), ("keyboard", "키보드"), ("stroller", "유모차"), ("umbrella", "우산"),
    ("pillow", "베개"), ("pan", "프라이팬"), ("monitor", "모니터"), ("sofa", "소파"), ("watch", "시계"),
    ("towel", "수건"), ("bicycle", "자전거"), ("mask", "마스크"),
)  # fmt: skip

ATTRIBUTES = (
    ("red", "빨강"), ("blue", "파랑"), ("black", "검정"), ("white", "흰색"), ("green", "초록"), ("pink", "분홍"),
    ("large", "대형"), ("small", "소형"), ("light", "가벼운"), ("wide", "넓은"), ("soft", "부드러운"), ("quiet", "조용한"),
    ("wooden", "나무"), ("steel", "스틸"), ("cotton", "면"), ("leather", "가죽"), ("foldable", "접이식"), ("wireless", "무선"),
    ("organic", "유기농"), ("kids", "아동"), ("outdoor", "야외"), ("travel", "여행"), ("fast", "빠른"), ("warm", "따뜻한"),
)  # fmt: skip

BUDGET = {-1: (("cheap", "저렴한"), ("sale", "할인")), 1: (("premium", "고급"), ("best", "최고"))}

SYLLABLES = ("ka", "lo", "mi", "ne", "ru", "so", "ta", "vi", "zo", "be", "du", "fe", "ga", "hi", "jo", "pa")


def form(words: tuple[str, str], hangul: bool | np.bool_) -> str:
    """The Hangul or the Latin form of one word."""
    return words[1] if hangul else words[0]


def brand_names(count: int) -> list[str]:
    """`count` different pronounceable names of three syllables, e.g. 'kalomi'."""
    base = len(SYLLABLES)
    codes = (np.arange(count, dtype=np.int64) * 1103) % base**3  # 1103 is odd, so codes repeat only after base**3
    return ["".join(SYLLABLES[(code // base**place) % base] for place in range(3)) for code in codes.tolist()]
