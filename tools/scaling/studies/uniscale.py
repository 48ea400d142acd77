"""UniScale's ablation (2603.24226; PAPERS 3.9): lists of the entire space with and without routing by domain, against search lists alone.

The log has un-exposed candidates and a feed whose tastes contradict those of search in part, planted at full strength: negative transfer is
there to be found. "ES3" are lists with every step of ES3; "feed" only adds the feed's pages as lists, so that no label of a search list
changes. Every arm is tested on the same search lists, whose items were all shown. The paper's figures are changes of AUC on private data.
"""

from __future__ import annotations

from collections.abc import Sequence

from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import EQUIVALENT, HIGHER, LOWER, Arm, Contrast, Finding, Lists, Setup, Study, change
from tools.scaling.results import Results
from tools.scaling.status import Judged

SPEC = "configs/features/synthetic_es3.yaml"
LOG_FLAGS = (("feed_share", "1.0"), ("feed_conflict", "1.0"), ("candidates_per_search", "40"))

_PAGES = (("searchify", "feed"), ("query_columns", "query_category"))
LISTS = {
    "search": Lists("search"),
    "feed": Lists("feed", flags=_PAGES),
    "ES3": Lists("es3", flags=(*_PAGES, ("unexposed_per_list", "15"), ("attribute_elsewhere", "true"))),
}
ROUTINGS = {
    "naive": {"domain_experts": "false", "domain_attention": "false"},
    "DREF": {"domain_experts": "true", "domain_attention": "false"},
    "DAPGA": {"domain_experts": "false", "domain_attention": "true"},
    "both": {"domain_experts": "true", "domain_attention": "true"},
}
ALONE = ("naive", "both")
"""Routings of the lists that only add the feed."""
REFERENCE = "search, naive"
PAPER = {
    "search, both": "+0.02 % AUC",
    "ES3, naive": "-0.43 % AUC",
    "ES3, DREF": "+0.19 % AUC",
    "ES3, DAPGA": "+0.22 % AUC",
    "ES3, both": "+0.32 % AUC",
}


def _arm(lists: str, routing: str) -> Arm:
    """With lists of one domain there is nothing to route by: what remains of the experts does."""
    flags = {"backbone": "hhsft", **ROUTINGS[routing]}
    if lists != "search" and routing != "naive":
        flags["domain_feature"] = "domain"
    return Arm(f"{lists}, {routing}", "hhsft", tuple(flags.items()), LISTS[lists])


def declare(setup: Setup) -> Study:
    """Search lists and ES3 lists by all routings, and the feed alone by the first and the last; a quick study has the same."""
    setup.need_period("uniscale")
    cells = [(lists, routing) for lists in LISTS for routing in (ALONE if lists == "feed" else ROUTINGS)]
    arms = tuple(_arm(*cell) for cell in cells)
    return Study("uniscale", "Entire space and routing by domain", REFERENCE, arms, (), {"hhsft": REFERENCE}, paper=PAPER)


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """U1 naive mixing hurts, U2 routing gives search lists nothing, U3 each part repairs, U4 both gain, U5 the gain needs both, U6 the
    planted conflict alone."""
    del study, results
    found = [
        Contrast("ES3, naive less search, naive", change(REFERENCE, "ES3, naive"), LOWER, "U1", "-0.43 %"),
        Contrast("search, both less search, naive", change(REFERENCE, "search, both"), EQUIVALENT, "U2", "+0.02 %", "nulls"),
    ]
    for routing, gain in (("DREF", "+0.62 %"), ("DAPGA", "+0.65 %"), ("both", "+0.75 %")):
        found.append(Contrast(f"ES3, {routing} less ES3, naive", change("ES3, naive", f"ES3, {routing}"), HIGHER, "U3", gain))
    for routing, gain in (("DREF", "+0.19 %"), ("DAPGA", "+0.22 %"), ("both", "+0.32 %")):
        found.append(Contrast(f"ES3, {routing} less search, naive", change(REFERENCE, f"ES3, {routing}"), HIGHER, "U4", gain))
    for routing, gain in (("DREF", "+0.13 %"), ("DAPGA", "+0.10 %")):
        found.append(Contrast(f"ES3, both less ES3, {routing}", change(f"ES3, {routing}", "ES3, both"), HIGHER, "U5", gain))
    return [
        *found,
        Contrast("feed, naive less search, naive", change(REFERENCE, "feed, naive"), LOWER, "U6", "planted"),
        Contrast("feed, both less feed, naive", change("feed, naive", "feed, both"), HIGHER, "U6", "planted"),
    ]


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """Nothing that no contrast says."""
    del study, results, how
    return []


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """The ablation's table: mAP by lists and routing, beside the training items that each has."""
    del judged
    names = {arm.name for arm in study.arms}
    rows = []
    for lists in LISTS:
        cells = (f"{results.map(name):.4f}" if (name := f"{lists}, {routing}") in names else "" for routing in ROUTINGS)
        rows.append((lists, f"{results.cost(f'{lists}, naive', 'items'):,.0f}", *cells))
    note = "mAP on the same search lists, mean over seeds. The feed contradicts search in four of its thirteen planted terms."
    return [Section("Lists by routing", note, ("lists", "training items", *ROUTINGS), rows)]
