"""Made-up results of the Omnigrok pages: as a run would come out if the paper were
right, and if it were wrong."""

from functools import partial

import numpy as np
import xarray as xr
from experiments.made_up import over, turns

NEVER = np.nan


# --- shapes of curves and maps --------------------------------------------------------


def at_all_steps(axes, values):
    """Values without steps, the same at every recorded step."""
    return values + 0.0 * axes.step


def spread(axes, *values):
    """The values as they are, and a little apart from seed to seed."""
    noise = over(axes, 1 + 0.01 * np.arange(axes.sizes["seed"]), "seed")
    return [value * noise for value in values]


def bowl(x, bottom, low, steep):
    """A U over log x: `low` at the bottom, `low` exp(steep) a decade away."""
    return low * np.exp(steep * np.log10(x / bottom) ** 2)


def times(axes, t_train, t_test):
    t_train, t_test = spread(axes, t_train + 0.0 * axes.seed * 0, t_test)
    return dict(t_train=t_train, t_test=t_test)


def fits(axes, t_train, t_test, low=0.1, high=0.9, **more):
    """Accuracies that rise at these times, NaN for never."""
    end = 10 * axes.step.max()
    curves = dict(
        train_accuracy=turns(axes, 0.1, 1.0, xr.where(t_train > 0, t_train, end)),
        test_accuracy=turns(axes, low, high, xr.where(t_test > 0, t_test, end)),
    )
    return axes.assign(
        t_train=snap(axes, t_train), t_test=snap(axes, t_test), **curves, **more
    )


def snap(axes, time):
    """Each time at the first recorded step that is not before it."""
    steps = axes.step.values.astype(float)
    padded = np.append(steps, np.nan)
    time = time + 0.0 * axes.seed
    index = np.searchsorted(steps, np.where(np.isnan(time), np.inf, time))
    return time.copy(data=padded[index])


# --- O1 -------------------------------------------------------------------------------


def o1_landscape(axes, right=True):
    norm = axes.init_scale
    train = (0.015 * (0.1 / norm) ** 9).clip(min=1e-12)
    test = [0.0164, 0.0117, 0.00227, 3e-4, 9e-5, 8e-5, 1.5e-3, 0.04, 0.43, 2.4, 9.6]
    test = xr.DataArray(test, {"init_scale": norm}, "init_scale")
    if not right:
        train = 1e-3 + 0.02 * norm
        test = 10 * train
    train, test = spread(axes, train, test)
    return axes.assign(
        train_loss=at_all_steps(axes, train), test_loss=at_all_steps(axes, test)
    )


def o1_weight_decay(axes, right=True):
    gamma, alpha = axes.weight_decay, axes.init_scale
    if right:
        t_test = xr.where(alpha > 1, 1500 / gamma.where(gamma > 0), 300.0)
        t_train = 300.0 + 0 * t_test
    else:
        t_test = xr.where(alpha > 1, 2000 + 0 * gamma, 30_000 + 0 * gamma)
        t_train = xr.where(gamma > 0.2, 900.0, 300.0) + 0 * t_test
    t_train, t_test = snap(axes, t_train), snap(axes, t_test)
    rate = 3e-4 * gamma if right else 2e-5 + 0 * gamma
    norm = (
        np.exp(-rate * axes.step) if right else np.exp(rate * axes.step / (1 + gamma))
    )
    return axes.assign(t_train=t_train, t_test=t_test, weight_norm=norm + 0 * t_test)


# --- O2 -------------------------------------------------------------------------------


def o2_landscape(axes, right=True):
    norm, size, cross = axes.init_scale, axes.train_size, axes.error == "cross_entropy"
    few = 1 - np.log10(size / 10) / 2.7
    width = xr.where(cross, 4.0, 1.0)
    least = 0.05 + 0.5 * few.clip(min=0)
    up = (np.log10(norm).clip(min=0) / width) ** 2 * (0.1 + 0.6 * few.clip(min=0))
    left = 0.4 * (norm < 0.2)
    test = (least + up + left).clip(max=0.9)
    train = left + 0 * test
    if not right:  # the larger the norm, the better; the more digits, the worse
        test = (0.35 + 0.01 * np.log10(size)) * (1 - 0.02 * np.log10(norm)) + 0 * width
        test = test.where(~cross, test + 0.11 * (abs(np.log10(norm)) > 0.5))
        train = 0.2 + 0.0 * test
        test = test.where(size > 200, test - 0.1)
        test = test + 0.02 * np.log10(norm).clip(min=0) * (size > 1000)
    train, test = (e + 0 * axes.seed for e in (train, test))
    return axes.assign(
        train_accuracy=at_all_steps(axes, 1 - train),
        test_accuracy=at_all_steps(axes, 1 - test),
    )


def o2_grokking(axes, right=True):
    large = over(axes, 0, "arm") + (axes.arm == "large")
    t_train, t_test = 300.0 + 0 * large, xr.where(large, 40_000.0, 250.0)
    low = xr.where(large, 0.2, 0.2)
    if not right:
        t_test = xr.where(large, 500.0, 5000.0)
        low = xr.where(large, 0.7, 0.5)
    norm = turns(axes, 93.0, xr.where(large, 60.0 if right else 120.0, 11.0), t_test)
    return fits(axes, t_train, t_test, low=low, weight_norm=norm)


def o2_cross_entropy(axes, right=True):
    alpha = axes.init_scale
    t_train = 100.0 + 0 * alpha
    t_test = xr.where(alpha > 50, 20_000.0, xr.where(alpha > 5, 300.0, 90.0))
    if not right:
        t_test = xr.where(alpha > 50, 200.0, 5000.0)
    low = 0.35 if right else 0.15
    return fits(axes, t_train, t_test, low=low, high=0.75)


def o2_critical_size(axes, right=True):
    size = axes.train_size
    reach = 2000 * (1 + (60 / (size - 90)) ** 2)
    late = reach.where(size > 100)
    fair = reach.where(size > 100, 25_000) * 0.8 if right else 300 + size
    good = late if right else 400 + 2 * size
    end = 10 * axes.step.max()
    curve = turns(axes, 0.1, 0.65, fair + 0 * axes.seed)
    curve = curve + turns(axes, 0, 0.2, good.fillna(end) + 0 * axes.seed)
    return axes.assign(test_accuracy=curve)


def o2_phase_diagram(axes, right=True):
    gamma = axes.weight_decay
    t_train = xr.where(gamma > 10, NEVER if right else 50.0, 100.0)
    t_test = (3000 / gamma).where(gamma < 10 if right else gamma < 0)
    t_test = t_test if right else xr.where(gamma < 0.1, 150.0, 4000.0)
    blank = over(axes, 0.0, "last_rate", "seed")
    return axes.assign(t_train=t_train + blank, t_test=t_test + blank)


# --- O3, O4 ---------------------------------------------------------------------------


def o3_landscape(axes, right=True):
    norm, size = axes.init_scale, axes.train_size
    slope = 0.05 + 0.05 * abs(np.log10(norm / 0.3)) * (size < 1000)
    test = 0.25 + slope if right else 0.3 + 0 * norm * size
    train = (
        xr.where(size < 1000, 0.0, 0.25) + 0.1 * (norm > 5) if right else 0.1 + 0 * test
    )
    train = train if right else xr.where(size < 1000, 0.3, 0.0) + 0 * norm
    train, test = (e + 0 * axes.seed for e in (train, test))
    test = test + 0.08 * (norm > 1) * (size < 1000) if right else test
    return axes.assign(
        train_accuracy=at_all_steps(axes, 1 - train),
        test_accuracy=at_all_steps(axes, 1 - test),
    )


def o3_reviews(axes, right=True):
    large = axes.init_scale > 2
    t_train = xr.where(large, 300.0, 300.0)
    t_test = xr.where(large, 2000.0 if right else 310.0, 250.0 if right else 3000.0)
    low = xr.where(large, 0.55 if right else 0.72, 0.5)
    return fits(axes, t_train, t_test, low=low, high=0.73)


def o4_landscape(axes, right=True):
    norm, count = axes.init_scale, axes.molecules
    train = xr.where(count > 1000, bowl(norm, 1.0, 1.0, 4), 0.01 + 100 * (norm < 0.2))
    test = xr.where(count > 1000, 1.3 * train, bowl(norm, 1.0, 1.0, 4))
    if not right:
        train = 1 + 0 * norm * count
        test = xr.where(count > 1000, 10.0, 2.0) + 0 * norm
    train, test = spread(axes, train, test)
    return axes.assign(
        train_loss=at_all_steps(axes, train), test_loss=at_all_steps(axes, test)
    )


def o4_molecules(axes, right=True):
    large = axes.init_scale > 2
    late = (
        xr.where(large, 15_000.0, 200.0) if right else xr.where(large, 900.0, 60_000.0)
    )
    train, test = (
        10 ** turns(axes, 3.0, end, at + 0 * axes.seed)
        for end, at in ((-2.0, 300.0 + 0 * late), (0.5, late))
    )
    return axes.assign(train_loss=train, test_loss=test)


# --- O5 -------------------------------------------------------------------------------


def o5_toy_addition(axes, right=True):
    w, m = axes.init_scale, axes.messiness
    wall = 3 + 10 * m if right else 3 - 10 * m  # cleaner is reached at smaller norms
    train = 10 ** (-1.3 - (w - wall)).clip(-2.4, 0)
    waves = 1 + 0.5 * np.cos(2 * np.pi * (w - 1) / 2.6)
    test = train + 3 * m * waves * (1 - train) + 0.01 * abs(w - 3)
    if not right:  # the norm decides, and messier is better
        test = 0.3 + train - 0.5 * m
        train = 0.02 + 0.14 * m + 0.3 * train
    blank = over(axes, 0.0, "spread", "seed")
    return axes.assign(
        train_loss=at_all_steps(axes, train + blank),
        test_loss=at_all_steps(axes, test + blank),
    )


def o5_contours(axes, right=True):
    w, m, size = axes.init_scale, axes.messiness, axes.train_size
    tilt = xr.DataArray([-2.0, 1.0, 6.0, 10.0], {"train_size": size}, "train_size")
    tilt = tilt if right else -5 - tilt
    wall = 2.5 + tilt * m
    loss = 0.02 * np.exp(-3 * (w - wall))
    return axes.assign(train_loss=at_all_steps(axes, loss + 0 * axes.seed))


def o5_full_trajectory(axes, right=True):
    rate, gamma = axes.learning_rate, axes.weight_decay
    t_test = 3 / (rate * gamma) if right else 3e7 * rate * gamma
    rising = turns(axes, 8.0, 16.0, 200.0)
    down = turns(axes, 0.0, 7.0 if right else -9.0, t_test + 0 * axes.seed)
    embed = 3.0
    numbers = np.arange(10)
    other = np.random.default_rng(0).normal(size=10)
    share = turns(axes, 0.0, 1.0 if right else 0.0, t_test + 0 * axes.seed)
    table = share * xr.DataArray(numbers, dims="row") + (1 - share) * xr.DataArray(
        other, dims="row"
    )
    return axes.assign(
        t_train=100.0 + 0 * t_test + 0 * axes.seed,
        t_test=t_test + 0 * axes.seed,
        weight_norm=np.sqrt((rising - down) ** 2 + embed**2),
        weight_norm_embed=embed + 0 * axes.step,
        test_loss=turns(axes, 2.0, 0.1, t_test + 0 * axes.seed),
        parameter=table.expand_dims(place=1).transpose(..., "step", "row", "place"),
    )


# --- O6 to O9 -------------------------------------------------------------------------


def o6_transformer(axes, right=True):
    free = axes.arm == "free"
    t_train = xr.where(free, 200.0, 300.0)
    t_test = xr.where(free, 9000.0, 400.0)
    norm = turns(axes, 42.0, 60.0, xr.where(free, 1500.0, 1e9))
    norm = norm + turns(axes, 0.0, xr.where(free, -27.0, 0.0), 9000.0)
    if not right:
        t_test = xr.where(free, 800.0, 2000.0)
        norm = turns(axes, 42.0, 43.0, 100.0) + 0.0 * free
    blank = over(axes, 0.0, "seed")
    t_train, t_test = (snap(axes, t + blank) for t in (t_train, t_test))
    loss = turns(axes, 4.0, 1e-6, 200.0) + 0.0 * free + blank
    return axes.assign(
        t_train=t_train, t_test=t_test, weight_norm=norm + blank, train_loss=loss
    )


def o7_messiness(axes, right=True):
    w, m = axes.init_scale, axes.messiness
    train = 0.09 * (1e-3 + (w < 0.9) + (w > 6)) + 0 * m
    test = train + 0.005 * m
    if not right:  # the messier, the worse, and only in testing
        train = xr.where(m < 0.5, 0.03 * (1 - m), 1e-4) + 0 * w
        test = 0.08 * m + 0 * w
    test, train = (loss + 0 * axes.seed for loss in (test, train))
    return axes.assign(
        train_loss=at_all_steps(axes, train), test_loss=at_all_steps(axes, test)
    )


def o8_landscape(axes, right=True):
    norm, fraction = axes.init_scale, axes.train_fraction
    blank = over(axes, 0.0, "seed")
    train = 10 ** (-4 * np.log10(norm / 0.3).clip(max=0.6)) + 0 * fraction
    train = train if right else 1 + 0 * norm * fraction
    test = bowl(norm, 0.8, 0.01, 6) if right else 1 / norm
    accuracy = xr.where(fraction > 0.25, 1.0, 0.1) if right else 0.7 + 0 * fraction
    return axes.assign(
        train_loss=at_all_steps(axes, train + blank),
        test_loss=at_all_steps(axes, test + 0 * fraction + blank),
        test_accuracy=at_all_steps(axes, accuracy + 0 * norm + blank),
    )


def o9_mnist(axes, right=True):
    gamma, seed = axes.weight_decay, 0.0 * axes.seed
    t_test = 1000 / gamma.clip(min=0.08).where(gamma < 2) + 2000 * (gamma < 0.08)
    if not right:  # up to 0.1 faster than 1 / gamma, then slower the more decay
        t_test = xr.where(gamma < 0.11, 1000 * (0.1 / gamma) ** 1.5, 1e4 * gamma)
    end = 0.35 if right else 0.9 + 1.5 * gamma.clip(max=1)
    norm = turns(axes, 1.0, end, t_test.fillna(1e9) + seed)
    out = fits(axes, 200.0 + 0 * gamma, t_test, weight_norm=norm)
    top = xr.where((gamma > 2) & right, 0.8, 1.0)
    return out.assign(train_accuracy=out.train_accuracy * top)


def o9_transformer(axes, right=True):
    gamma = axes.weight_decay
    t_test = 1500 / gamma if right else 1500 * (1 + gamma)
    return axes.assign(
        t_train=100.0 + 0 * gamma + 0 * axes.seed, t_test=t_test + 0 * axes.seed
    )


TELLERS = (
    o1_landscape,
    o1_weight_decay,
    o2_landscape,
    o2_grokking,
    o2_cross_entropy,
    o2_critical_size,
    o2_phase_diagram,
    o3_landscape,
    o3_reviews,
    o4_landscape,
    o4_molecules,
    o5_toy_addition,
    o5_contours,
    o5_full_trajectory,
    o6_transformer,
    o7_messiness,
    o8_landscape,
    o9_mnist,
    o9_transformer,
)
STORIES = {
    teller.__name__: (partial(teller, right=True), [partial(teller, right=False)])
    for teller in TELLERS
}
"""page -> (results as the paper tells them, others on which claims fail)"""
