"""Made-up results of the GrokTransfer pages: as the paper tells them, and others."""

import numpy as np
import xarray as xr

from experiments import made_up


def by(axes, dim, values):
    """A value for each coordinate of an axis."""
    coords = {dim: axes[dim].values} if dim in axes.coords else {}
    return xr.DataArray(list(values), coords, (dim,))


def seeded(axes, values):
    return values + xr.zeros_like(axes.seed, float)


def curve(axes, points):
    """The line through (step, value) pairs."""
    x, y = zip(*points, strict=True)
    return xr.DataArray(np.interp(axes.step, x, y), {"step": axes.step}, ("step",))


def curves(axes, dim, points):
    """A line for each coordinate of an axis, the same for all seeds."""
    lines = xr.concat([curve(axes, each) for each in points], axes[dim])
    return seeded(axes, lines)


def recorded(axes, step):
    """The recorded step nearest to a step; NaN for NaN (never)."""
    steps = axes.step.values
    return np.nan if np.isnan(step) else float(steps[abs(steps - step).argmin()])


def timed(axes, dim, times):
    """t_train and t_test for each coordinate of an axis, from (t_train, t_test)."""
    found = [[recorded(axes, step) for step in pair] for pair in times]
    t_train, t_test = zip(*found, strict=True)
    return axes.assign(
        t_train=seeded(axes, by(axes, dim, t_train)),
        t_test=seeded(axes, by(axes, dim, t_test)),
    )


def priced(runs, arms, *, per_step=100.0, weak=1.0, steps=1000.0, accuracy=0.5):
    """The costs of runs, of whose arms those in `arms` have weak networks."""
    has = xr.where(runs.arm.isin(arms), 1.0, np.nan)
    return runs.assign(
        flops_per_step=seeded(runs, xr.zeros_like(has) + per_step),
        weak_flops_per_step=seeded(runs, has * weak),
        weak_steps_taken=seeded(runs, has * steps).expand_dims(step=runs.step),
        weak_test_accuracy=seeded(runs, has * accuracy).expand_dims(step=runs.step),
    )


NEVER = np.nan
NARROW = dict(embedding=4, init_scale=0.15, learning_rate=0.01, weight_decay=0.3)
WIDE = dict(embedding=128, init_scale=0.3, learning_rate=0.01, weight_decay=3.0)
PARITY = dict(learning_rate=0.1, weight_decay=0.5)
DIGITS = dict(init_scale=9.0, weight_decay=0.3)


def weak_networks(at, small):
    def story(axes):
        at_, end = by(axes, "width", (1e9, at)), by(axes, "width", (small, 1.0))
        small_curve = xr.where(axes.width == 4, small, 0.0)
        rises = made_up.turns(axes, 0.0, end, at_)
        both = xr.where(axes.step > 5000, np.maximum(rises, small_curve), rises)
        ops = xr.DataArray([0.0, 0.0], {"operation": axes.operation}, ("operation",))
        return axes.assign(test_accuracy=seeded(axes, both + ops))

    return story


def modular(moved, stopped, best):
    arms = ("GrokTransfer", "stopped at 50%")

    def story(axes):
        runs = timed(axes, "arm", ((50, 900), moved, stopped))
        runs = runs.assign(
            test_accuracy=curves(axes, "arm", [[(0, 0), (900, each)] for each in best])
        )
        return priced(runs, arms) + 0 * by(axes, "operation", (0.0, 0.0))

    return story


def parity(weak, flat, scratch, moved):
    def story(axes):
        runs = timed(axes, "arm", (weak, (10, NEVER), scratch, moved))
        runs = runs.assign(
            train_accuracy=curves(axes, "arm", [[(0, 0.5), (50, 1)]] * 4),
            test_accuracy=curves(
                axes, "arm", [[(0, 0.5), (50, end)] for end in (1, flat, 1, 1)]
            ),
        )
        return priced(runs, ("GrokTransfer",))

    return story


def embeddings(one_hot, binary, fourier, products, times):
    def story(axes):
        lines = curves(axes, "arm", (one_hot, binary, fourier, products))
        return timed(axes, "arm", times).assign(test_accuracy=lines)

    return story


def init_scale(t_test):
    def story(axes):
        runs = timed(axes, "init_scale", [(40, t_test)] * axes.sizes["init_scale"])
        return runs.assign(test_accuracy=seeded(axes, curve(axes, [(0, 0), (1500, 1)])))

    return story


def kernel(width, grows):
    """Changes of the kernel as a bump of this width about the fit, or ever larger."""

    def story(axes):
        fit = by(axes, "arm", (45.0, 50.0, 70.0))
        log = np.log(axes.step.clip(min=1) / fit)
        change = np.exp(log * 2) if grows else np.exp(-((log / width) ** 2))
        kernels = seeded(axes, change.cumsum("step")).expand_dims(ntk_0=1, ntk_1=1)
        return axes.assign(ntk=kernels, t_train=seeded(axes, fit))

    return story


def grokking(fits, generalises, end, vanishes):
    def story(axes):
        ones = by(axes, "weight_decay", (1.0, 1.0))
        at = recorded(axes, generalises)
        return axes.assign(
            t_train=seeded(axes, fits * ones),
            t_test=seeded(axes, at * ones),
            test_accuracy=seeded(axes, ones * made_up.turns(axes, 0.5, end, at)),
            train_loss=seeded(axes, ones * made_up.turns(axes, 1.0, vanishes, 50)),
        )

    return story


def neurons(axes, signs):
    """Signal weights [2, 3] of three neurons."""
    return xr.DataArray(np.array(signs, float).T, dims=("parameter_0", "parameter_1"))


THREE = ((1, 1), (-1, -1), (1, -1))
TWO = ((1, 1), (-1, -1), (1, 1))


def ratio_of(n, noise, p):
    """r_W = eps^noise n^n p^p."""

    def story(axes):
        size = axes.noise**noise * axes.train_size**n * axes.task_dimension**p
        size = seeded(axes, size) * (1 + 0.01 * (axes.seed - axes.seed[0]) / 10)
        return axes.assign(
            norm_ratio=size.expand_dims(step=axes.step),
            parameter=neurons(axes, THREE)
            + xr.zeros_like(size).expand_dims(step=axes.step),
        )

    return story


def one_step(accuracy, slope):
    def story(axes):
        size = seeded(axes, axes.train_size**slope).expand_dims(step=axes.step)
        runs = axes.assign(
            norm_ratio=size, parameter=neurons(axes, THREE) + xr.zeros_like(size)
        )
        for split in ("train", "test"):
            name = f"small_one_step_{split}_accuracy"
            draws = xr.DataArray([accuracy] * 12, dims=(f"{name}_0",))
            runs[name] = draws + xr.zeros_like(size)
        return runs

    return story


def weak_xor(*, end, at, signs, cosine, step, target):
    """Three neurons that end at a test accuracy, and what a target makes of them."""

    def story(axes):
        zero = seeded(axes, xr.zeros_like(axes.width, float))
        ends = by(axes, "width", (0.25, 0.5, end))
        runs = axes.assign(
            test_accuracy=made_up.turns(axes, 0.5, ends, at) + zero,
            parameter=neurons(axes, signs) + zero,
            directions=xr.DataArray([cosine] * 3, dims=("directions_0",)) + zero,
            norm_ratio=zero + 0.01,
        )
        for split in ("train", "test"):
            for prefix in ("unit_", "largest_", "fresh_unit_", "fresh_largest_"):
                name = f"{prefix}one_step_{split}_accuracy"
                runs[name] = xr.DataArray([step] * 12, dims=(f"{name}_0",)) + zero
            name = f"target_{split}_accuracy"
            runs[name] = xr.DataArray(target, dims=(f"{name}_0",)) + zero
        return runs

    return story


def weak_accuracy(helps):
    def story(axes):
        weak = np.linspace(0.05, 0.99, axes.sizes["steps"])
        worth = weak if helps else weak[::-1]
        gaps = [(50, 55 + 400 * (1 - each) ** 2) for each in worth]
        runs = axes.assign(
            weak_test_accuracy=seeded(axes, by(axes, "steps", weak)).expand_dims(
                step=axes.step
            ),
            test_accuracy=curves(
                axes, "steps", [[(0, 0), (500, each)] for each in worth]
            ),
        )
        return runs.merge(timed(axes, "steps", gaps))

    return story


def transformer(times, *, weak):
    names = ("GrokTransfer", "solved weak network")

    def story(axes):
        runs = timed(axes, "arm", times)
        loss = curves(axes, "arm", [[(0, 5), (3000, 0)]] * axes.sizes["arm"])
        return priced(runs.assign(train_loss=loss), names, weak=weak)

    return story


def ablations(times, least):
    def story(axes):
        lines = [[(0, 0), (45, 1), (200, 1), (300, each)] for each in least]
        runs = timed(axes, "arm", times).assign(
            test_accuracy=curves(axes, "arm", lines),
            train_accuracy=curves(axes, "arm", [[(0, 0), (50, 1)]] * 6),
        )
        return priced(runs, runs.arm.values[1:])

    return story


def digits(times, end):
    def story(axes):
        lines = [[(0, 0.1), (2000, each)] for each in end]
        lines = curves(axes, "arm", lines)
        runs = timed(axes, "arm", times).assign(test_accuracy=lines)
        return priced(runs, ("GrokTransfer",))

    return story


def searched(scratch, moved):
    """t_test of every setting of an arm; NaN for settings from the second rate on."""

    def story(axes):
        place = by(axes, "learning_rate", range(axes.sizes["learning_rate"]))
        first = [scratch[0], moved[0]]
        other = [scratch[1], moved[1]]
        step = xr.where(place == 0, by(axes, "arm", first), by(axes, "arm", other))
        others = xr.zeros_like(axes.init_scale) + xr.zeros_like(axes.weight_decay)
        return axes.assign(t_test=seeded(axes, step + others))

    return story


def tried(time, others, *used):
    """t_test at the settings used, and at all others; all fit at step 20."""

    def story(axes):
        dims = [dim for dim in axes.dims if dim != "step"]
        shape = [axes.sizes[dim] for dim in dims]
        coords = {dim: axes[dim] for dim in dims}
        steps = xr.DataArray(np.full(shape, float(others)), coords, dims)
        for each in used:
            steps.loc[each] = time
        return axes.assign(t_test=steps, t_train=xr.full_like(steps, 20))

    return story


def remedies(times, early, seconds):
    def story(axes):
        lines = [[(0, 0), (60, early), (150, early), (200, 1)]] * axes.sizes["arm"]
        runs = timed(axes, "arm", times)
        prices = by(axes, "arm", [1.0, seconds, *[1.0] * (axes.sizes["arm"] - 2)])
        runs = runs.assign(
            test_accuracy=curves(axes, "arm", lines),
            start_seconds=seeded(axes, 0 * prices),
            step_seconds=seeded(axes, prices),
        )
        return priced(runs, ("GrokTransfer",))

    return story


GROKS = [(0, 0), (500, 0.01), (600, 0.5), (800, 0.95), (1200, 0.97)]
GROWS = [(0, 0), (40, 0.3), (60, 0.6), (300, 0.8)]
AT_ONCE = [(0, 0), (50, 0.9), (60, 1), (1200, 1)]
COLLAPSES = [(0, 0), (150, 0.92), (400, 0.1), (1200, 0.1)]
LEARNS = np.linspace(0.5, 1, 61).clip(max=0.99)
FAST = np.minimum(0.5 + 0.1 * np.arange(61), 1.0)

STORIES = {  # page -> (a story on which all hold, stories on which each fails)
    "g1_weak": (weak_networks(2000, 0.4), [weak_networks(300, 0.1)]),
    "g1_modular": (
        modular((50, 55), (60, 110), (0.97, 1, 1)),
        [modular((50, 500), (60, 600), (0.97, 1, 0.5))],
    ),
    "g1_parity": (
        parity((30, 300), 0.5, (20, 200), (10, 12)),
        [parity((30, 40), 1.0, (20, 40), (10, 60))],
    ),
    "g2_embeddings": (
        embeddings(
            *(GROKS, GROWS, AT_ONCE, [(0, 0), (1000, 0.1)]),
            ((45, 790), (50, NEVER), (50, 55), (50, NEVER)),
        ),
        [
            embeddings(
                *(AT_ONCE, [(0, 0), (300, 0.1)], COLLAPSES, AT_ONCE),
                ((45, 50), (50, NEVER), (50, 150), (50, 50)),
            )
        ],
    ),
    "g2_init_scale": (init_scale(900), [init_scale(60)]),
    "g3_kernel": (kernel(0.5, False), [kernel(0.5, True), kernel(3.0, False)]),
    "g4_grokking": (grokking(4, 90, 1.0, 1.0), [grokking(20, 25, 0.8, 0.5)]),
    "g4_norm_ratio": (ratio_of(-0.5, 1, 0), [ratio_of(0, 0.5, -0.5)]),
    "g4_one_step": (one_step(1.0, -0.5), [one_step(0.8, -1.2)]),
    "g4_weak": (
        weak_xor(end=0.75, at=100, signs=THREE, cosine=0.99, step=1.0, target=FAST),
        [
            weak_xor(end=0.5, at=100, signs=TWO, cosine=0.8, step=1.0, target=FAST),
            weak_xor(
                end=0.75, at=400, signs=THREE, cosine=0.8, step=0.9, target=LEARNS
            ),
            weak_xor(
                end=0.75, at=100, signs=THREE, cosine=0.99, step=0.9, target=FAST[::-1]
            ),
        ],
    ),
    "g5_weak_accuracy": (weak_accuracy(True), [weak_accuracy(False)]),
    "g6_transformer": (
        transformer(((50, 2000), (40, 90), (40, 60), (40, 900), (40, NEVER)), weak=0.5),
        [
            transformer(
                ((50, 1000), (40, NEVER), (40, 60), (40, 900), (40, 100)), weak=100.0
            ),
            transformer(
                ((50, 1000), (40, 90), (40, 60), (40, NEVER), (40, 100)), weak=100.0
            ),
        ],
    ),
    "g7_ablations": (
        ablations(
            ((50, 900), (50, 60), (60, NEVER), (50, 60), (50, 60), (50, 60)), (1,) * 6
        ),
        [
            ablations(
                ((50, 900), (50, 60), (60, 90), (50, 400), (50, 400), (50, 400)),
                (1, 1, 1, 0.5, 0.5, 1),
            )
        ],
    ),
    "g7_mnist": (
        digits(((20, 2000), (20, 25), (20, 2500)), (0.75, 0.75, 0.7)),
        [digits(((20, 30), (20, 900), (20, 22)), (0.75, 0.6, 0.7))],
    ),
    "grid_search": (
        searched((230, NEVER), (50, 100)),
        [searched((230, NEVER), (200, NEVER)), searched((60, 60), (50, NEVER))],
    ),
    "search_weak": (
        tried(900, NEVER, NARROW, WIDE),
        [tried(NEVER, NEVER), tried(900, 500, NARROW, WIDE)],
    ),
    "search_parity": (
        tried(300, 500, PARITY),
        [tried(NEVER, NEVER), tried(NEVER, 500, PARITY)],
    ),
    "search_digits": (
        tried(2000, 200, DIGITS),
        [tried(NEVER, NEVER), tried(200, 2000, DIGITS)],
    ),
    "remedies": (
        remedies(
            ((40, 500), (40, 45), (40, 300), (40, 700), *[(160, 200)] * 3), 0.1, 0.5
        ),
        [
            remedies(
                ((40, 100), (40, 400), (40, 300), (40, 700), *[(40, 400)] * 3),
                *(0.6, 5.0),
            )
        ],
    ),
}
"""page -> (results as the paper tells them, others on which claims fail)"""
