"""Made-up results of the pages of lazy to rich: as the paper tells them, and others."""

import numpy as np
import xarray as xr
from experiments.made_up import over, turns


def by(axes, dim, *values):
    """One value for each coordinate of an axis."""
    return xr.DataArray(list(values), {dim: axes[dim]}, dim)


def bump(axes, start, peak, end, up, down):
    """A curve that goes from `start` to `peak` at a step, and to `end` at another."""
    return turns(axes, start, peak, up) + turns(axes, 0.0, end - peak, down)


def record(axes, steps):
    """The recorded steps that are nearest, for times that are looked up in curves."""
    found = axes.step.sel(step=steps, method="nearest").drop_vars("step")
    return found.astype(float)


def runs(axes, **variables):
    """The results with variables that are given for all seeds alike."""
    seeds = over(axes, 0.0, "seed")
    given = {name: xr.DataArray(value) for name, value in variables.items()}
    return axes.assign(
        {name: xr.broadcast(value, seeds)[0] for name, value in given.items()}
    )


def k1_holds(axes):
    every = 0 * axes.epsilon
    test = bump(axes, 1.0, 1.3, 0.05, 50, 20_000)
    return runs(
        axes,
        train_loss=every + bump(axes, 1.0, 0.6, 0.0, 40, 500),
        test_loss=every + test,
        population_risk=every + test,
        lazy_test_loss=every + turns(axes, 1.0, 1.3, 50),
        kernel_regression_loss=every + 1.2,
        weight_norm=every + turns(axes, 1.0, 2.0, 20_000),
        cka_test=every + turns(axes, 0.1, 0.5, 20_000),
        misalignment_error=every + turns(axes, 1.0, 0.1, 20_000),
    )


def k1_fails(axes):
    """The network learns features at once."""
    every = 0 * axes.epsilon
    test = turns(axes, 1.0, 0.5, 500)
    return runs(
        axes,
        train_loss=every + turns(axes, 1.0, 0.4, 500),
        test_loss=every + test,
        population_risk=every + test,
        lazy_test_loss=every + turns(axes, 1.0, 1.3, 50),
        kernel_regression_loss=every + 1.2,
        weight_norm=every + turns(axes, 1.0, 0.5, 500),
        cka_test=every + turns(axes, 0.5, 0.1, 500),
        misalignment_error=every + turns(axes, 1.0, 0.1, 500),
    )


def kernels(axes, at):
    """Kernels that turn from one to another at a step, and two targets."""
    first, then = (
        xr.DataArray(m, dims=("a", "b")) for m in (np.eye(2), np.ones((2, 2)))
    )
    targets = xr.DataArray(np.eye(2), dims=("a", "c")) * turns(axes, 1.0, 1.0, 2)
    return dict(ntk=turns(axes, first, then, at), ntk_targets=targets)


def k2_holds(axes):
    alphas = axes.output_scale
    t_train, t_test = record(axes, 500 * alphas), record(axes, 930 * alphas)
    return runs(
        axes,
        t_train=t_train,
        t_test=t_test,
        train_loss=turns(axes, 1.0, 0.0, 1.05 * t_train),
        test_loss=turns(axes, 1.0, 0.0, t_test),
        weight_norm=turns(axes, 1.0, 1.3, t_test),
        **kernels(axes, 800),
    )


def k2_fails(axes):
    """Test follows train, at any output scale, and the norm falls."""
    t_train, t_test = (record(axes, t + 0 * axes.output_scale) for t in (500, 600))
    return runs(
        axes,
        t_train=t_train,
        t_test=t_test,
        train_loss=turns(axes, 1.0, 0.0, 1.05 * t_train),
        test_loss=turns(axes, 1.0, 0.0, 1.05 * t_train),
        weight_norm=turns(axes, 1.0, 0.8, t_test),
        **kernels(axes, 2000),
    )


def moduli_holds(axes):
    times = dict(t_train=500 + 0 * axes.modulus, t_test=1500 + 0 * axes.modulus)
    return runs(
        axes, **times, weight_norm=turns(axes, 1.0, 1.0 + 1 / axes.modulus, 900)
    )


def moduli_fails(axes):
    """The largest prime never generalises, and there the norm falls."""
    late = axes.modulus < axes.modulus.max()
    end = xr.where(late, 1.2, 0.9)
    t_test = (1500 + 0.0 * axes.modulus).where(late)
    norm = turns(axes, 1.0, end, 900)
    return runs(axes, t_train=500 + 0 * axes.modulus, t_test=t_test, weight_norm=norm)


def alignment_holds(axes):
    scale, centred = axes.epsilon * axes.output_scale, axes.centered * 1.0
    risk = turns(axes, 1.0, 0.01 * scale * centred, 1000)
    return runs(axes, population_risk=risk, cka_test=0.1 * axes.epsilon * (risk > -1))


def alignment_fails(axes):
    """As without centring: more power in quadratic functions is better."""
    scale = axes.epsilon * axes.output_scale
    risk = turns(axes, 1.0, 0.01 / scale, 1000) + 0 * axes.centered
    return runs(axes, population_risk=risk, cka_test=0.1 / axes.epsilon * (risk > -1))


def laziness_holds(axes):
    alphas, late = axes.output_scale, 3000 * axes.output_scale / axes.epsilon
    height = xr.where(alphas >= 0.5, 1.1, 1.0)
    risk = bump(axes, 1.0, height, 0.01, 100, 120 + late)
    train = turns(axes, 1.0, 0.0, 60) + 0 * late
    return runs(axes, train_loss=train, population_risk=risk, diverged=late < 0)


def laziness_fails(axes):
    """Test follows train whatever the settings."""
    every = 0 * axes.output_scale * axes.epsilon
    risk = turns(axes, 1.0, 0.01, 120) + every
    train = turns(axes, 1.0, 0.0, 60) + every
    return runs(axes, train_loss=train, population_risk=risk, diverged=every < 0)


def diagram(axes, delay, end, diverged):
    risk = turns(axes, 1.0, end, 20 + delay)
    train = turns(axes, 1.0, 0.0, 20) + 0 * delay
    return runs(axes, train_loss=train, population_risk=risk, diverged=diverged)


def diagram_holds(axes):
    alphas, epsilons = axes.output_scale, axes.epsilon
    delay = 6000 * alphas / (1 + alphas / 4) * epsilons**-0.7
    return diagram(axes, delay, 1e-3 * (alphas * epsilons) ** 0.5, delay < 0)


def diagram_fails(axes):
    """The delay is the same everywhere, the rich end worst, and all diverge."""
    both = axes.output_scale * axes.epsilon
    return diagram(axes, 500 + 0 * both, 1e-3 / both, both > 0)


def decomposition_holds(axes):
    def terms(*places):
        return by(axes, "train_size", *places)

    down = terms(1e9, 5000, 5000, 5000)  # few data: never
    power = terms(1.0, 1.0, 0.2, 0.5), terms(0.0, 0.05, 0.001, 0.01)
    return runs(
        axes,
        linear_power=bump(axes, 0.01, *power, 100, down),
        population_risk=bump(axes, 1.0, 1.2, 0.02, 100, down),
        misalignment_error=turns(axes, 0.8, 0.1, down),
    )


def decomposition_fails(axes):
    """No power in linear modes but where there are many data."""
    power = by(axes, "train_size", 0.0, 0.01, 1.0, 0.0)
    few = turns(axes, 1.0, 0.1, 500) * by(axes, "train_size", 1, 0, 0, 0)
    rest = turns(axes, 1.0, 1.2, 100) * by(axes, "train_size", 0, 1, 1, 1)
    return runs(
        axes,
        linear_power=0.01 + turns(axes, 0.0, power, 100),
        population_risk=few + rest,
        misalignment_error=turns(axes, 0.8, 0.1, 50) + 0 * few,
    )


def eigen(axes, ends, peaks, ratio):
    """Ends and peaks over the start for each j (rows) and P (columns)."""
    dims = ("eigenvector", "train_size")
    end, peak = (
        xr.DataArray(v, {d: axes[d] for d in dims}, dims) for v in (ends, peaks)
    )
    loss = bump(axes, 1.0, peak, end, 50, 1000)
    never = end >= 0.5
    t_test = (100.0 * ratio + 0 * end).where(~never)
    return runs(axes, test_loss=loss, t_train=100.0 + 0 * end, t_test=t_test)


def eigen_holds(axes):
    fails, learns = 3.0, 0.01
    ends = [
        [learns] * 4,
        [fails, learns, learns, learns],
        [fails, learns, learns, learns],
        [fails, fails, fails, learns],
    ]
    peaks = np.array([[1.0] * 4, [1.2] * 4, [1.2] * 4, [3.0] * 4])
    return eigen(axes, ends, peaks, 1.0)


def eigen_fails(axes):
    """Hard tasks are learned from few data, easy ones late or never."""
    ends = [[0.8] * 4, [0.4, 0.8, 0.8, 0.8], [0.4] * 4, [0.4, 0.4, 0.4, 0.6]]
    return eigen(axes, ends, np.full((4, 4), 1.2), 5.0)


def timed(axes, t_train, t_test):
    return runs(axes, t_train=t_train, t_test=t_test)


def digits_holds(axes):
    t_test = by(axes, "output_scale", 50.0, 100.0, 200.0, 1000.0, 2000.0)
    return timed(axes, 100.0 + 0 * t_test, t_test)


def digits_fails(axes):
    """The delay is the same at all output scales."""
    t_test = by(axes, "output_scale", 450.0, 450.0, 450.0, 450.0, 450.0)
    return timed(axes, 100.0 + 0 * t_test, t_test)


def transformer_points(axes, lazy, heavy, plain):
    t_test = 100 + xr.DataArray([*lazy, *heavy, *plain], dims="output_scale")
    return timed(axes, 100.0 + 0 * t_test.fillna(0), t_test)


def transformer_holds(axes):
    never = np.nan  # within the run: the longest delay
    return transformer_points(
        axes, [100, 1000, 5000, never], [150, 900], [8000, 6000, 4000]
    )


def transformer_fails(axes):
    """A larger output scale shortens the delay, and so does a smaller weight decay."""
    return transformer_points(
        axes, [6000, 50, 4000, 3000], [5000, 3000], [3000, 4000, 5000]
    )


def collapsed(axes, end, moved):
    risk, displacement = (
        turns(axes, start, v, 100) for start, v in ((1, end), (0, moved))
    )
    return runs(
        axes,
        population_risk=risk,
        relative_displacement=displacement,
        diverged=end < 0,
    )


def collapse_holds(axes):
    laziness = axes.init_scale**2 * axes.output_scale
    return collapsed(axes, 0.05 * laziness**0.5, 1 / laziness)


def collapse_fails(axes):
    """The two scales act in opposite directions."""
    other = axes.init_scale**2 / axes.output_scale
    return collapsed(axes, 0.05 * other, 1 / other)


def student_holds(axes):
    return timed(axes, 100.0 + 0 * axes.output_scale, 110 + 5000 * axes.output_scale**2)


def student_fails(axes):
    """Smaller scales are slower."""
    return timed(axes, 100.0 + 0 * axes.output_scale, 100 + 500 / axes.output_scale)


def threshold_holds(axes):
    t_test = 100 + 1 / axes.tolerance**1.5
    loss = turns(axes, 1.0, 0.0, 100) + 0 * t_test
    return timed(axes, 100.0 + 0 * t_test, t_test).assign(
        runs(axes, train_loss=loss, test_loss=loss)
    )


def threshold_fails(axes):
    """The threshold does not matter, and the test loss comes late."""
    t_test = 5000.0 + 0 * axes.tolerance
    losses = dict(
        train_loss=turns(axes, 1.0, 0.0, 100) + 0 * t_test,
        test_loss=turns(axes, 1.0, 0.0, 5000) + 0 * t_test,
    )
    return timed(axes, 100.0 + 0 * t_test, t_test).assign(runs(axes, **losses))


def aligned_holds(axes):
    share = axes.aligned_share
    height = 0.2 * (1 - share / 0.2)
    start = 1 - share**2
    return runs(
        axes,
        population_risk=bump(axes, start, start * (1 + height), 0.05, 50, 2000),
        cka_test=turns(axes, 0.02 + 0.1 * share, 0.5, 2000),
    )


def aligned_fails(axes):
    """An aligned part makes the rise, not the random weights."""
    share = axes.aligned_share
    return runs(
        axes,
        population_risk=bump(axes, 1.0, 1 + share, 0.05, 50, 2000),
        cka_test=turns(axes, 0.1 - 0.1 * share, 0.5, 2000),
    )


def readouts_holds(axes):
    down = by(axes, "train_size", 1e9, 2000, 500)
    peak = by(axes, "train_size", 1.0, 1.0, 0.1)
    return runs(
        axes,
        population_risk=bump(axes, 1.0, 1.2, 0.02, 50, down),
        linear_power=bump(axes, 0.01, peak, 0.01, 50, down),
    )


def readouts_fails(axes):
    """Few data are learned, others are not."""
    few = by(axes, "train_size", 1, 0, 0)
    down = xr.where(few == 1, 500, 1e9)
    return runs(
        axes,
        population_risk=bump(axes, 1.0, 1.0, 0.02, 50, down),
        linear_power=bump(axes, 0.01, 1.0, 0.01, 50, down),
    )


def both_networks(axes, network, linear):
    """A curve of the network and one of its linearisation."""
    return xr.where(axes.linearized, linear, network)


def momentum_holds(axes):
    heavy = axes.momentum > 0
    down = xr.where(heavy, 2000, 15_000)
    network = bump(axes, 1.0, 1.3, 0.01, 50, down)
    fitted = turns(axes, 1.0, 0.0, xr.where(heavy, 100, 1500))
    swings = 0.05 * (np.sin(axes.step) > 0) * (axes.step < 80) * heavy
    return runs(
        axes,
        train_loss=fitted + swings + 0 * axes.linearized,
        population_risk=both_networks(axes, network, turns(axes, 1.0, 1.3, 50)),
    )


def momentum_fails(axes):
    """With momentum the network learns features at once, and smoothly."""
    heavy = axes.momentum > 0
    network = turns(axes, 1.0, 0.5, 20) + 0 * axes.momentum
    swings = 0.05 * (np.sin(axes.step) > 0) * (axes.step < 80) * ~heavy
    return runs(
        axes,
        train_loss=turns(axes, 1.0, 0.0, 100) + swings + 0 * axes.linearized,
        population_risk=both_networks(axes, network, turns(axes, 1.0, 1.3, 50)),
    )


def adamw_holds(axes):
    train = turns(axes, 1.0, 0.0, 100) + 0 * axes.linearized + 0 * axes.output_scale
    network, floor = turns(axes, 1.0, 0.0, 100), 0.1 * axes.output_scale**-0.5
    test = both_networks(axes, network, np.maximum(network, floor))
    return runs(axes, train_loss=train, test_loss=test)


def adamw_fails(axes):
    """They part at once, and more so at large output scales."""
    train = turns(axes, 1.0, 0.0, 100) + 0 * axes.linearized + 0 * axes.output_scale
    height = 1 + 0.3 * axes.output_scale
    test = both_networks(axes, turns(axes, 1.0, 0.0, 100), turns(axes, 1.0, height, 10))
    return runs(axes, train_loss=train, test_loss=test)


def linearised_transformer(axes, t_test, parting, best):
    train = both_networks(
        axes, turns(axes, 1.0, 0.0, 90), turns(axes, 1.0, 0.5, parting)
    )
    return runs(
        axes,
        t_train=100.0 + 0 * axes.linearized,
        t_test=t_test + 0.0 * axes.linearized,
        train_loss=train,
        test_loss=turns(axes, 4.0, 4.0, 90) + 0 * axes.linearized,
        test_accuracy=turns(axes, 0.0, xr.where(axes.linearized, best, 1.0), 5000),
    )


def linearised_transformer_holds(axes):
    return linearised_transformer(axes, 5000, 1000, 0.3)


def linearised_transformer_fails(axes):
    """The linearisation does all that the network does."""
    result = linearised_transformer(axes, 200, 90, 1.0)
    network = result.train_loss.sel(linearized=False, drop=True)
    return result.assign(train_loss=network + 0 * axes.linearized)


def variants_holds(axes):
    return runs(
        axes,
        train_loss=turns(axes, 1.0, 0.0, 200) + 0 * variant(axes),
        test_loss=bump(axes, 1.0, 1.1, 0.05, 50, 6000) + 0 * variant(axes),
    )


def variants_fails(axes):
    """Train and test loss fall together, to a floor."""
    loss = turns(axes, 1.0, 0.0, 200) + 0 * variant(axes)
    return runs(axes, train_loss=loss, test_loss=0.2 + loss)


def variant(axes):
    return axes.directions if "directions" in axes.coords else axes.task_degree


def difficulty_holds(axes):
    difficulty = axes.eigenvector**2 / axes.output_scale**2
    return moved(axes, difficulty, difficulty * (1 + 0.01 / axes.output_scale))


def difficulty_fails(axes):
    """The parameters move the less, the harder the task."""
    difficulty = axes.eigenvector**2 / axes.output_scale**2
    return moved(axes, difficulty, 1 / difficulty)


def moved(axes, difficulty, square):
    first = axes.step == 0
    return runs(
        axes,
        t_train=100 + 0 * square,
        difficulty=difficulty.where(first),
        weight_norm=2.0 + 0 * first * square,
        relative_displacement=turns(axes, 0.0, square**0.5 / 2.0, 100),
    )


STORIES = {
    "k1_grokking": (k1_holds, [k1_fails]),
    "k2_modular": (k2_holds, [k2_fails]),
    "k2_moduli": (moduli_holds, [moduli_fails]),
    "k3_alignment": (alignment_holds, [alignment_fails]),
    "k3_laziness": (laziness_holds, [laziness_fails]),
    "k3_phase_diagram": (diagram_holds, [diagram_fails]),
    "k4_decomposition": (decomposition_holds, [decomposition_fails]),
    "k5_eigenlabels": (eigen_holds, [eigen_fails]),
    "k6_mnist": (digits_holds, [digits_fails]),
    "k7_transformer": (transformer_holds, [transformer_fails]),
    "k8_collapse": (collapse_holds, [collapse_fails]),
    "k9_teacher_student": (student_holds, [student_fails]),
    "k9_threshold": (threshold_holds, [threshold_fails]),
    "k10_aligned_init": (aligned_holds, [aligned_fails]),
    "k11_readouts": (readouts_holds, [readouts_fails]),
    "k12_momentum": (momentum_holds, [momentum_fails]),
    "k12_teacher_student": (adamw_holds, [adamw_fails]),
    "k12_transformer": (linearised_transformer_holds, [linearised_transformer_fails]),
    "k13_hermite": (variants_holds, [variants_fails]),
    "k13_multi_index": (variants_holds, [variants_fails]),
    "k14_difficulty": (difficulty_holds, [difficulty_fails]),
}
"""page -> (results as the paper tells them, others on which claims fail)"""
