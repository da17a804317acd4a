"""An experiment, which is a tree of parts, and the pure functions made from it.

    Experiment(task=part(polynomial, ...), model=part(committee, ...), ...)
    make_dataset(experiment) -> Dataset
    make(experiment)         -> train.Run with init, advance and measure

Traced settings are the leaves of the tree, and everything else is its structure. They
may be arrays, so that all of this also works inside a compiled sweep.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from grok_jax import grok_transfer, observables, optim, rng, transfer
from grok_jax.losses import Loss
from grok_jax.network import Network
from grok_jax.parts import Part, plain
from grok_jax.settings import (
    Count,
    Leaf,
    Natural,
    NonNegative,
    OwnSeed,
    Positive,
    Seed,
    SettingError,
    Steps,
    schema,
)
from grok_jax.train import Batches, Observable, Run, Start, make_run, threshold
from grok_jax.types import Dataset, Params, Stop, Task


@dataclass(frozen=True, kw_only=True)
class Wrapping:
    """Wrapper settings that apply to any model."""

    output_scale: Positive = 1.0
    init_scale: Positive = 1.0
    centered: bool = False
    linearized: bool = False


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Settings that apply to any optimiser."""

    rule: Literal["plain", "lazy"] = "plain"
    norm: Literal["free", "fixed"] = "free"


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long a run trains and when it is measured."""

    steps: Steps = 1000
    records: Count = 100
    spacing: Literal["log", "linear"] = "log"
    batch_size: Natural = 0
    count_flops: bool = False


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a stop rule must hold, relative to the step at which it first held."""

    patience: NonNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Seeds that override the run's seed (`rng.run_keys`); -1: no override."""

    data: OwnSeed = -1
    split: OwnSeed = -1
    init: OwnSeed = -1
    batches: OwnSeed = -1


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Which closed-form references of a run are computed."""

    lazy: bool = False


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """How often an observable is measured: at every `every`-th record."""

    every: Count = 1


class Observed(NamedTuple):
    """An observable and how often it is measured."""

    part: Part
    rhythm: Part


class Transferred(NamedTuple):
    """A weak network and how it initialises the target."""

    how: Part
    model: Part
    wrapping: Part
    optimizer: Part


class Experiment(NamedTuple):
    """The parts of one run, or of many if traced settings have a run axis.

    `wrap` holds wrappers of the network, (apply, anchor) -> apply, the first innermost;
    `gradient` holds gradient transformations, applied in order before the optimiser.
    """

    seed: Any
    task: Part
    model: Part
    wrapping: Part
    wrap: OrderedDict[str, Part]
    loss: Part
    optimizer: Part
    descent: Part
    gradient: OrderedDict[str, Part]
    observe: OrderedDict[str, Observed]
    transfer: Transferred | None
    train: Part
    stop: Part
    patience: Part
    seeds: Part
    reference: Part


# --- settings by their paths ----------------------------------------------------------


def _seed(*, seed: Seed = 0) -> None: ...


SEED = schema(_seed)["seed"]
CHOSEN: dict[str, tuple[str, str]] = {
    "task": ("task", "polynomial"),
    "model": ("model", "committee"),
    "loss": ("loss", "squared_error"),
    "optimizer": ("optimizer", "gradient_descent"),
    "stop": ("stop rule", "threshold"),
}
"""configuration section -> what its `name` chooses, and the default name"""
WEAK: dict[str, tuple[str, str]] = {
    "transfer.model": ("model", "fnn"),
    "transfer.optimizer": ("optimizer", "adamw"),
}
"""The same for the weak network, if there is one."""
NAMED: dict[str, str] = {
    "wrap": "wrapper",
    "gradient": "gradient transformation",
    "observe": "observable",
}
"""section with any number of named parts -> what the parts are"""
FIXED: dict[str, Callable] = {
    "wrapping": Wrapping,
    "descent": Descent,
    "train": Training,
    "patience": Patience,
    "seeds": Seeds,
    "reference": Reference,
}
_WITHIN = {"wrapping": "model", "descent": "optimizer", "patience": "stop"}
_SAME = ("how", "part", "rhythm")


def assemble(makes: Mapping[str, Callable]) -> Experiment:
    """Makes an experiment of these parts with default settings, by section (such as
    "observe.norms"); settings without a default are left out."""

    def named(section: str) -> OrderedDict[str, Part]:
        found = ((path.partition("."), make) for path, make in makes.items())
        return OrderedDict((p[2], plain(m)) for p, m in found if p[0] == section)

    weak = None
    if all(section in makes for section in WEAK):
        weak = Transferred(
            plain(grok_transfer.Transfer),
            plain(makes["transfer.model"]),
            plain(Wrapping),
            plain(makes["transfer.optimizer"]),
        )
    rhythm = plain(Rhythm)
    return Experiment(
        seed=SEED.default,
        wrap=named("wrap"),
        gradient=named("gradient"),
        observe=OrderedDict(
            (name, Observed(one, rhythm)) for name, one in named("observe").items()
        ),
        transfer=weak,
        **{section: plain(makes[section]) for section in CHOSEN},
        **{field: plain(make) for field, make in FIXED.items()},
    )


def map_parts(function: Callable[[str, Part], Part], tree: Any, at: str = "") -> Any:
    """Replaces each part of a tree by `function(section, part)`."""
    if isinstance(tree, Part):
        return function(at, tree)
    if isinstance(tree, OrderedDict):
        mapped = ((k, map_parts(function, v, f"{at}.{k}")) for k, v in tree.items())
        return OrderedDict(mapped)
    if not isinstance(tree, (Observed, Transferred, Experiment)):
        return tree
    place = f"{at}." if at else ""
    sections = {
        field: at if field in _SAME else f"{place}{_WITHIN.get(field, field)}"
        for field in tree._fields
    }
    fields = zip(sections.values(), tree, strict=True)
    return type(tree)(*(map_parts(function, value, at) for at, value in fields))


def parts_of(experiment: Experiment) -> list[tuple[str, Part]]:
    """Lists all parts as (section, part)."""
    found: list[tuple[str, Part]] = []

    def note(section: str, part: Part) -> Part:
        found.append((section, part))
        return part

    map_parts(note, experiment)
    return found


def leaves_of(experiment: Experiment) -> dict[str, Leaf]:
    """Every setting that may be swept, as path ("model.width") -> declaration."""
    return {
        "seed": SEED,
        **{
            f"{section}.{name}": leaf
            for section, part in parts_of(experiment)
            for name, leaf in schema(part.make).items()
        },
    }


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Every setting, as path -> value."""
    return {
        "seed": experiment.seed,
        **{
            f"{section}.{name}": value
            for section, part in parts_of(experiment)
            for name, value in part.settings.items()
        },
    }


def with_settings(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with new values at these paths, which must be checked already;
    unknown paths are ignored."""
    sections: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        section, _, name = path.rpartition(".")
        sections.setdefault(section, {})[name] = value

    def change(section: str, part: Part) -> Part:
        known = schema(part.make)
        new = {k: v for k, v in sections.get(section, {}).items() if k in known}
        return part.replace(**new) if new else part

    changed = map_parts(change, experiment)
    return changed._replace(seed=changes.get("seed", experiment.seed))


def stack(experiments: Sequence[Experiment]) -> Experiment:
    """Stacks experiments of equal structure; traced settings get a run axis."""

    def column(*values: Any) -> np.ndarray:
        real = isinstance(values[0], float)
        return np.asarray(values, jnp.result_type(float) if real else np.int32)

    return jax.tree.map(column, *experiments)


# --- data -----------------------------------------------------------------------------


def make_keys(experiment: Experiment) -> rng.Keys:
    """The random keys of a run, which depend only on its seeds."""
    return rng.run_keys(experiment.seed, **experiment.seeds.settings)


def data_identity(experiment: Experiment) -> Any:
    """All that a run's data depend on; runs for which it is equal share one copy."""
    overrides = (experiment.seeds[name] for name in ("data", "split"))
    seeds = [experiment.seed if seed < 0 else seed for seed in overrides]
    leaves, structure = jax.tree.flatten(experiment.task)
    return (structure, *leaves, *seeds)


def load_files(experiment: Experiment) -> dict[str, dict[str, np.ndarray]]:
    """The keyword argument of a task that reads files, with their arrays; else {}."""
    task = experiment.task
    load = task.make.load if isinstance(task.make, Task) else None
    if load is None:
        return {}
    return {"files": _load(load, tuple((name, task[name]) for name in schema(load)))}


@lru_cache(maxsize=4)
def _load(load: Callable, arguments: tuple) -> dict[str, np.ndarray]:
    return load(**dict(arguments))


def make_dataset(experiment: Experiment, **files: Any) -> Dataset:
    """The dataset of a run; `files`, for real data, come from `load_files`.

    Raises: SettingError if the task returns something else.
    """
    what = "a grok_jax.types.Dataset(train, test, extras)"
    keys = make_keys(experiment)
    return experiment.task.made(Dataset, "task.name", what, keys, **files)


def make_loss(experiment: Experiment) -> Loss:
    """The loss of a run."""
    return experiment.loss.made(Loss, "loss.name", "a grok_jax.losses.Loss")


# --- the run --------------------------------------------------------------------------


def network_of(experiment: Experiment) -> Network:
    """The wrapped network of a run, with its kernel and learning rate."""
    optimizer = experiment.optimizer.settings
    return Network(
        experiment.model,
        experiment.wrapping(),
        experiment.task,
        wraps=tuple(experiment.wrap.values()),
        learning_rate=optimizer.get("learning_rate"),
        lazy=experiment.descent["rule"] == "lazy",
        factored=experiment.transfer is not None,
    )


def make(experiment: Experiment, keys: rng.Keys | None = None) -> Run:
    """Makes the run of an experiment; `keys` default to `make_keys(experiment)`.

    Raises: SettingError if parts are incompatible, at once or when traced.
    """
    network = network_of(experiment)
    if network.model.dynamics is not None and not is_plain(experiment):
        raise SettingError(
            "A model with dynamics of its own needs optimizer.name gradient_descent at "
            "a constant rate without momentum, weight decay or clipping, norm free, "
            "full batches and no gradient transformations."
        )
    weak = experiment.transfer
    if weak is not None:
        steps, norm = experiment.train["steps"], experiment.descent["norm"]
        clip_norm = experiment.optimizer.settings.get("clip_norm", 0.0)
        grok_transfer.check(weak.how(), steps, norm, clip_norm)
    keys = keys or make_keys(experiment)
    size = experiment.train["batch_size"]

    def init(data: Dataset) -> Start:
        params = network.model.init(keys.init, data.train.x[:1])
        if network.model.prepare:
            params = network.model.prepare(params, data)
        if weak is None:
            return Start(params, {})
        return grok_transfer.transferred(
            weak.how(),
            lambda key: make(weak_experiment(experiment), keys._replace(init=key)),
            rng.named_key(keys.init, "transfer"),
            params,
            data,
            init_scale=experiment.wrapping["init_scale"],
        )

    return make_run(
        init=init,
        network=network.apply,
        loss=make_loss(experiment),
        tx=_optimizer(experiment, network.learning_rate),
        dynamics=network.model.dynamics,
        batches=Batches(size, keys.batches) if size else None,
        observables=[
            _observable(experiment, network, name, one)
            for name, one in experiment.observe.items()
        ],
        stop=_stop(experiment),
    )


def _stop(experiment: Experiment) -> Stop | None:
    never = experiment.stop.make is threshold and not experiment.stop["metric"]
    rule = Stop(experiment.stop, experiment.patience["patience"])
    return None if never else rule


def is_plain(experiment: Experiment) -> bool:
    """Whether a step is just the learning rate times the full-batch gradient."""
    tx = experiment.optimizer
    return (
        tx.make is optim.gradient_descent
        and not any(tx[name] for name in ("momentum", "weight_decay", "clip_norm"))
        and not (tx["rate_drops"] or tx["warmup_steps"])
        and experiment.descent["norm"] == "free"
        and not experiment.gradient
        and not experiment.train["batch_size"]
    )


def _optimizer(experiment: Experiment, rate: Any) -> optax.GradientTransformation:
    """Chains gradient transformations, optimiser, fixed norm and merging of factors."""
    tx = experiment.optimizer
    if "learning_rate" in tx.settings:
        tx = tx.replace(learning_rate=rate)
    filters = [part() for part in experiment.gradient.values()]
    chained = optax.chain(*filters, tx()) if filters else tx()
    if experiment.descent["norm"] == "fixed":
        chained = optim.fixed_norm(chained)
    if experiment.transfer and experiment.transfer.how["merge_at"]:
        chained = transfer.merging(chained, experiment.transfer.how["merge_at"])
    return chained


def _observable(
    experiment: Experiment, network: Network, name: str, observed: Observed
) -> Observable:
    def measure(params: Params, anchor: Params, data: Dataset) -> dict[str, Array]:
        view = observables.View(
            apply=network.apply(anchor),
            params=params,
            anchor=anchor,
            data=data,
            kernel=lambda p, *rest: network.kernel(anchor, p, *rest),
            lift=lambda function: network.lift(function, anchor),
            loss=make_loss(experiment),
            model={**network.settings, **experiment.wrapping.settings},
        )
        what = "a dict of names and numbers"
        return observed.part.made(Mapping, f"observe.{name}", what, view)

    return Observable(measure, observed.rhythm["every"])


def weak_experiment(experiment: Experiment) -> Experiment:
    """The experiment of the weak network: the target's task and loss, full batches, its
    own model and optimiser, and none of the target's other options."""
    weak = experiment.transfer
    assert weak is not None
    return experiment._replace(
        model=weak.model,
        wrapping=weak.wrapping,
        wrap=OrderedDict(),
        optimizer=weak.optimizer,
        descent=plain(Descent),
        gradient=OrderedDict(),
        observe=OrderedDict(),
        transfer=None,
        train=experiment.train.replace(batch_size=0),
        stop=plain(threshold),
        reference=plain(Reference),
    )
