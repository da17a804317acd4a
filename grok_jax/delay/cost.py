"""What a look at the evidence costs, in training steps of the same run."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from grok_jax import experiment
from grok_jax.delay.evidence import evidence
from grok_jax.experiment import Experiment

STEPS, REPEATS = 50, 7


def in_steps(of: Experiment) -> float:
    """How many training steps of a run take as long as one look at its evidence; the
    least of several timings of both, on the machine at hand."""
    run = experiment.make(of)
    data = experiment.make_dataset(of, **experiment.load_files(of))
    state = jax.jit(run.init)(data)
    observe = [one for one in of.observe.values() if one.part.make is evidence]
    plain = of._replace(observe=type(of.observe)())
    look = experiment.make(of._replace(observe=type(of.observe)(evidence=observe[0])))
    measures = [jax.jit(each.measure) for each in (look, experiment.make(plain))]
    with_it, without = (
        _least(lambda measure=measure: measure(state, data, 0, 0))
        for measure in measures
    )
    advance = jax.jit(run.advance)
    step = _least(lambda: advance(state, data, 0, STEPS)) / STEPS
    return (with_it - without) / step


def _least(call: Callable[[], Any]) -> float:
    """The least seconds of some calls, after one that compiles."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return float(np.min(taken))
