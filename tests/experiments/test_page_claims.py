"""Every claim of every page on made-up results, on some of which it holds and on others
fails: none is true by construction, and none is beyond reach. Nothing is trained."""

import functools
import tomllib

import pytest

from experiments import (
    made_up,
    stories_groktransfer,
    stories_lazy_to_rich,
    stories_omnigrok,
)
from grok_jax import launch
from grok_jax.claims import OURS

STORIES = {
    f"{paper}/{page}": stories
    for paper, told in (
        ("lazy_to_rich", stories_lazy_to_rich),
        ("omnigrok", stories_omnigrok),
        ("groktransfer", stories_groktransfer),
    )
    for page, stories in told.STORIES.items()
}
COVERAGE = sorted((made_up.ROOT / "experiments").glob("*/coverage.toml"))


@functools.cache
def axes(page):
    return made_up.axes(page)


@functools.cache
def as_told(page):
    """What becomes of the claims of a page if the paper is right."""
    return made_up.claims(page, STORIES[page][0](axes(page)))


@pytest.mark.parametrize("page", STORIES)
def test_each_claim_holds_if_the_paper_is_right(page):
    found = as_told(page)
    assert found and not [id for id, claim in found.items() if not claim.holds]


@pytest.mark.parametrize("page", STORIES)
def test_each_claim_fails_on_other_results(page):
    others = [made_up.claims(page, story(axes(page))) for story in STORIES[page][1]]
    assert others and all(set(found) == set(as_told(page)) for found in others)
    always = [id for id in as_told(page) if all(found[id].holds for found in others)]
    assert not always


def test_every_page_with_claims_is_told():
    pages = (made_up.ROOT / "experiments").glob("*/*.py")
    with_claims = [path for path in pages if "def claims" in path.read_text("utf-8")]
    assert {f"{path.parent.name}/{path.stem}" for path in with_claims} == set(STORIES)


@pytest.mark.parametrize("path", COVERAGE, ids=lambda path: path.parent.name)
def test_the_coverage_has_every_page_and_every_claim_of_a_paper(path):
    paper = path.parent.name
    named = {page: set() for page in STORIES if page.startswith(f"{paper}/")}
    for row in tomllib.loads(path.read_text(encoding="utf-8"))["row"]:
        assert row["place"] and row["shows"] and (row.get("page") or row["why"])
        if "page" in row:
            named[f"{paper}/{row['page']}"] |= set(row["claims"])
    for page, ids in named.items():
        found = as_told(page)
        of_paper = {id for id, claim in found.items() if claim.place != OURS}
        assert of_paper <= ids <= set(found), page


def test_the_settings_that_a_search_judges_are_those_in_use():
    def module(page):
        path = made_up.ROOT / "experiments" / "groktransfer" / f"{page}.py"
        return launch.load_experiment(str(path))[0]

    weak, parity, digits = (
        module(f"search_{name}") for name in ("weak", "parity", "digits")
    )
    moved = module("g7_ablations").get_config().to_dict()
    both = (moved["transfer"], moved["arms"]["d_W = d_T"]["transfer"])
    used = {
        k: v
        for each in both
        for part in each.values()
        if isinstance(part, dict)
        for k, v in part.items()
    }
    assert {name: used[name] for name in weak.WIDE} == weak.WIDE
    assert tuple(weak.NARROW.values()) == module("g1_weak").LEVEL["addition"]
    assert parity.USED == module("g1_parity").WEAK
    page = module("g7_mnist").get_config()
    assert digits.USED["init_scale"] == page.model.init_scale
    assert digits.USED["weight_decay"] == page.optimizer.weight_decay
