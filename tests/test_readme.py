"""What README.md says in Python runs as it stands, block after block."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import grok_jax
from grok_jax.engine import config

README = (Path(grok_jax.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The names that all blocks leave, and the runs of `grok_jax.run` by workdir."""
    promotes = jax.numpy_rank_promotion("allow")  # the tests of the package do not
    with pytest.MonkeyPatch.context() as patch, promotes:
        patch.chdir(tmp_path_factory.mktemp("readme"))
        space = {"__name__": "readme"}
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"README block {number}", "exec"), space)
        yield space


def test_every_block_runs(names):
    assert len(BLOCKS) >= 5
    assert dict(names["results"].sizes)["arm"] == 3
    assert np.isfinite(names["results"].train_loss).all()
    assert names["weights"]["embed"].shape == (23, 16)


def test_the_page_with_a_linen_module_is_short_and_swept():
    page = BLOCKS[0]
    assert len(page.strip().splitlines()) <= 40
    space = {"__name__": "readme"}
    exec(page, space)
    plan = config.resolve(space["get_config"]()).plan
    assert plan.grid.dims == ("width", "noise", "seed")
