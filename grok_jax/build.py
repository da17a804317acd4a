"""Plain settings -> a run. The registries, the schema of a configuration and the one
place that puts task, model, wrappers, loss, optimiser and observables together.

Settings are flat ({"model.epsilon": 0.25}); traced ones may be arrays, so that
everything here also happens inside a compiled sweep.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from grok_jax import losses, ntk, observables, optim, rng, transfer, tree
from grok_jax.models import wrappers
from grok_jax.models.cluster_net import cluster_net
from grok_jax.models.committee import committee
from grok_jax.models.fnn import fnn
from grok_jax.models.gcn import gcn
from grok_jax.models.lstm import lstm
from grok_jax.models.mlp import mlp
from grok_jax.models.transformer import transformer
from grok_jax.models.two_layer import quadratic
from grok_jax.settings import (
    Count,
    Leaf,
    Momentum,
    Natural,
    NonNegative,
    OwnSeed,
    Positive,
    Seed,
    SettingError,
    Steps,
    TracedSteps,
    lookup,
    schema,
)
from grok_jax.tasks import files
from grok_jax.tasks.eigenlabels import eigenlabels
from grok_jax.tasks.imdb import imdb
from grok_jax.tasks.mnist import mnist
from grok_jax.tasks.modular import modular, modular_embedded, modular_tokens
from grok_jax.tasks.parity import sparse_parity
from grok_jax.tasks.polynomial import polynomial
from grok_jax.tasks.qm9 import qm9
from grok_jax.tasks.teacher_student import teacher_student
from grok_jax.tasks.toy_addition import toy_addition
from grok_jax.tasks.xor import xor_clusters
from grok_jax.theory.committee import exact_dynamics, exact_flow
from grok_jax.train import (
    Batches,
    Observable,
    Run,
    Start,
    Trained,
    make_run,
    train_until,
)
from grok_jax.types import Apply, Dataset, Dynamics, Model, Params, Split, Stop, Task

TASKS: dict[str, Task] = {
    "polynomial": Task(polynomial),
    "eigenlabels": Task(eigenlabels),
    "modular": Task(modular),
    "teacher_student": Task(teacher_student),
    "toy_addition": Task(toy_addition),
    "modular_tokens": Task(modular_tokens),
    "modular_embedded": Task(modular_embedded, files.modular_embedded),
    "sparse_parity": Task(sparse_parity),
    "xor_clusters": Task(xor_clusters),
    "mnist": Task(mnist, files.mnist),
    "imdb": Task(imdb, files.imdb),
    "qm9": Task(qm9, files.qm9),
}
MODELS: dict[str, Callable[..., Model]] = {
    "committee": committee,
    "committee_dynamics": exact_dynamics,
    "committee_flow": exact_flow,
    "quadratic": quadratic,
    "mlp": mlp,
    "fnn": fnn,
    "cluster_net": cluster_net,
    "lstm": lstm,
    "gcn": gcn,
    "transformer": transformer,
}
LOSSES: dict[str, Callable[..., losses.Loss]] = {
    "squared_error": losses.regression,
    "classification": losses.classification,
    "binary_cross_entropy": losses.binary_cross_entropy,
    "exponential": losses.exponential,
}
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "gradient_descent": optim.gradient_descent,
    "adamw": optim.adamw,
}
OBSERVABLES: dict[str, Callable[..., dict[str, Array]]] = {
    "norms": observables.norms,
    "kernel_alignment": observables.kernel_alignment,
    "population_risk": observables.population_risk,
    "output_alignment": observables.output_alignment,
    "kernel_snapshots": observables.kernel_snapshots,
    "embedding_fourier": observables.embedding_fourier,
    "parameter_snapshots": observables.parameter_snapshots,
    "softmax_collapse": observables.softmax_collapse,
    "xor_norms": observables.xor_norms,
    "xor_one_step": observables.xor_one_step,
}

EXACT = ("committee_dynamics", "committee_flow")  # dynamics of the statistics
ONE_OUTPUT = ("polynomial", "eigenlabels")  # and every example with the same weight

# What every section has beside the settings of the part that its `name` chooses.


def _wrappers(
    *,
    output_scale: Positive = 1.0,
    init_scale: Positive = 1.0,
    centered: bool = False,
    linearized: bool = False,
) -> None: ...


def _descent(
    *,
    rule: Literal["plain", "lazy"] = "plain",
    norm: Literal["free", "fixed"] = "free",
    gradient: Literal["plain", "grokfast_ema", "grokfast_ma", "orthogonal"] = "plain",
    grokfast_decay: Momentum = 0.98,
    grokfast_strength: NonNegative = 2.0,
    grokfast_window: Count = 100,
) -> None: ...


def _transfer(
    *,
    source: Literal["none", "weak", "random"] = "none",
    form: Literal["product", "copy"] = "product",
    merge_at: Natural = 0,
    weak_leaf: str = "embed",
    weak_embedding: Natural = 4,
    weak_width: Count = 16,
    weak_layers: Count = 2,
    weak_init_scale: Positive = 1.0,
    weak_learning_rate: Positive = 5e-3,
    weak_weight_decay: NonNegative = 0.1,
    weak_steps: TracedSteps = 10_000,
    weak_accuracy: Positive = 2.0,
    weak_every: Count = 10,
    weak_candidates: Count = 1,
) -> None: ...


def _train(
    *,
    steps: Steps = 1000,
    records: Count = 100,
    spacing: Literal["log", "linear"] = "log",
    batch_size: Natural = 0,
    count_flops: bool = False,
) -> None: ...


def _stop(
    *,
    metric: str = "",
    threshold: float = 0.0,
    above: bool = False,
    patience: NonNegative = 0.0,
) -> None: ...


def _seeds(
    *,
    data: OwnSeed = -1,
    split: OwnSeed = -1,
    init: OwnSeed = -1,
    batches: OwnSeed = -1,
) -> None: ...


def _every(*, every: Count = 1) -> None: ...


def _lazy(*, lazy: bool = False) -> None: ...


def _seed(*, seed: Seed = 0) -> None: ...


REGISTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "task": (TASKS, "task"),
    "model": (MODELS, "model"),
    "loss": (LOSSES, "loss"),
    "optimizer": (OPTIMIZERS, "optimizer"),
}
_BESIDE = {"model": _wrappers, "optimizer": _descent}


def section_schema(section: str, name: str) -> dict[str, Leaf]:
    """The settings of one section for the part that `name` chooses."""
    registry, what = REGISTRIES[section]
    entry = lookup(registry, name, what)
    factory = entry.make if isinstance(entry, Task) else entry
    beside = schema(_BESIDE[section]) if section in _BESIDE else {}
    return {**schema(factory), **beside}


def observable_schema(name: str) -> dict[str, Leaf]:
    """The settings of one observable."""
    factory = lookup(OBSERVABLES, name, "observable")
    return {**schema(factory), **schema(_every)}


def run_schema(names: Mapping[str, str], observe: tuple[str, ...]) -> dict[str, Leaf]:
    """Every setting that belongs to a run, flat; any of them may be swept."""
    sections: dict[str, dict[str, Leaf]] = {
        **{section: section_schema(section, name) for section, name in names.items()},
        **{f"observe.{name}": observable_schema(name) for name in observe},
        "transfer": schema(_transfer),
        "train": schema(_train),
        "stop": schema(_stop),
        "seeds": schema(_seeds),
        "reference": schema(_lazy),
    }
    flat = {
        f"{section}.{key}": leaf
        for section, leaves in sections.items()
        for key, leaf in leaves.items()
    }
    return {**schema(_seed), **flat}


def names_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """section -> the name of the part that it chooses."""
    return {section: settings[f"{section}.name"] for section in REGISTRIES}


def section_of(settings: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The settings of one section by their short names."""
    prefix = f"{section}."
    return {
        path.removeprefix(prefix): value
        for path, value in settings.items()
        if path.startswith(prefix)
    }


def _arguments(settings: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The keyword arguments of the part that a section chooses."""
    own = section_of(settings, section)
    registry, what = REGISTRIES[section]
    entry = lookup(registry, own["name"], what)
    factory = entry.make if isinstance(entry, Task) else entry
    return {name: own[name] for name in schema(factory)}


def validate(settings: Mapping[str, Any]) -> None:
    """Raises SettingError where parts do not go together."""
    model, optimizer = settings["model.name"], settings["optimizer.name"]
    observed = observed_names(settings)
    is_committee = model in ("committee", *EXACT)
    is_polynomial = settings["task.name"] == "polynomial"
    single_square = is_polynomial and (
        settings["task.degree"] == 0 and settings["task.directions"] == 1
    )
    square_units = is_committee and settings.get("model.degree", 0) == 0
    if "population_risk" in observed and not (single_square and square_units):
        raise SettingError(
            "observe.population_risk needs task.name polynomial with one direction and "
            "degree 0, and a committee model with degree 0."
        )
    if settings.get("model.aligned_share", 0) and not is_polynomial:
        raise SettingError("model.aligned_share needs task.name polynomial.")
    words, equals = settings.get("task.vocabulary", 0), settings.get("task.equals")
    if equals is not None:
        words = settings["task.modulus"] + equals
    takes_tokens = model in ("transformer", "lstm", "fnn")
    if takes_tokens and settings["model.vocabulary"] != words:
        raise SettingError(
            f"model.vocabulary is {settings['model.vocabulary']}, but task.name "
            f"{settings['task.name']} has "
            + (f"{words} tokens." if words else "no tokens.")
        )
    if model == "transformer" and equals is not None:
        length = 2 + equals
        if settings["model.context"] != length:
            raise SettingError(
                f"model.context is {settings['model.context']}, but the sentences of "
                f"task.name modular_tokens have {length} tokens."
            )
    if model == "cluster_net" and settings["task.name"] != "xor_clusters":
        raise SettingError("model.name cluster_net needs task.name xor_clusters.")
    for name in ("xor_norms", "xor_one_step"):
        if name in observed and model != "cluster_net":
            raise SettingError(f"observe.{name} needs model.name cluster_net.")
    _validate_transfer(settings)
    if model in EXACT:
        exact = (
            optimizer == "gradient_descent"
            and settings["optimizer.rule"] == "lazy"
            and settings["optimizer.momentum"] == 0
        )
        exact &= _is_plain(settings)
        if not exact or settings["model.linearized"]:
            raise SettingError(
                f"model.name {model} is exact for optimizer.name gradient_descent "
                "with rule lazy, momentum 0, weight_decay 0, norm free and gradient "
                "plain on full batches, not linearised."
            )
    if settings["reference.lazy"] and (
        optimizer != "gradient_descent"
        or settings["optimizer.momentum"] != 0
        or not _is_plain(settings)
        or settings["loss.name"] != "squared_error"
        or settings["task.name"] not in ONE_OUTPUT
    ):
        raise SettingError(
            "reference.lazy has a closed form for optimizer.name gradient_descent "
            "with momentum 0, weight_decay 0, norm free and gradient plain on full "
            "batches, loss.name squared_error and tasks of one output only."
        )
    unused = _unused_grokfast(settings)
    if unused:
        raise SettingError(
            f"optimizer.{unused} does nothing with optimizer.gradient "
            f"{settings['optimizer.gradient']}."
        )
    if "softmax_collapse" in observed and (
        settings.get("loss.error") not in ("cross_entropy", "naive_cross_entropy")
    ):
        raise SettingError(
            "observe.softmax_collapse needs loss.error cross_entropy or "
            "naive_cross_entropy."
        )
    metric = settings["stop.metric"]
    always = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    if metric and metric not in (*always, "population_risk"):
        raise SettingError(
            f"stop.metric is {metric!r}; it must be one of {', '.join(always)}, "
            "population_risk or empty."
        )
    if "output_alignment" in observed and model in EXACT:
        raise SettingError("observe.output_alignment needs a network with outputs.")
    if metric == "population_risk" and metric not in observed:
        raise SettingError("stop.metric population_risk needs observe.population_risk.")


def _unused_grokfast(settings: Mapping[str, Any]) -> str:
    """The first setting of GrokFast that was changed and that nothing reads, or ""."""
    used = {
        "grokfast_ema": ("grokfast_decay", "grokfast_strength"),
        "grokfast_ma": ("grokfast_window", "grokfast_strength"),
    }.get(settings["optimizer.gradient"], ())
    leaves = schema(_descent)
    names = [name for name in leaves if name.startswith("grokfast_")]
    changed = [n for n in names if settings[f"optimizer.{n}"] != leaves[n].default]
    return next((name for name in changed if name not in used), "")


def _is_plain(settings: Mapping[str, Any]) -> bool:
    """Whether a step is the rate times the gradient on all examples, and no more."""
    return (
        settings["optimizer.norm"] == "free"
        and settings["optimizer.gradient"] == "plain"
        and settings.get("optimizer.weight_decay", 0) == 0
        and not settings["train.batch_size"]
    )


def _validate_transfer(settings: Mapping[str, Any]) -> None:
    own, model = section_of(settings, "transfer"), settings["model.name"]
    if own["source"] == "none":
        return
    if model not in ("fnn", "transformer") or not settings.get("model.embedding", 1):
        raise SettingError(
            f"transfer.source {own['source']} needs a target with an embedding: "
            "model.name transformer, or fnn with model.embedding above 0."
        )
    leaves = [f"layer_{i}" for i in range(own["weak_layers"])]
    leaves = ["embed", *leaves] if own["weak_embedding"] else leaves
    if own["weak_leaf"] not in leaves:
        raise SettingError(
            f"transfer.weak_leaf is {own['weak_leaf']!r}; the weak network has "
            f"{', '.join(leaves)}."
        )
    if own["merge_at"] and own["form"] == "copy":
        raise SettingError("transfer.merge_at merges factors; form copy has none.")
    if own["merge_at"] >= settings["train.steps"]:
        raise SettingError(
            f"transfer.merge_at is {own['merge_at']}; it must be below train.steps "
            f"({settings['train.steps']}), or nothing merges."
        )
    if own["merge_at"] and settings["optimizer.norm"] == "fixed":
        raise SettingError("transfer.merge_at does not go with optimizer.norm fixed.")


def observed_names(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The observables that these settings record."""
    return tuple(
        path.split(".")[1]
        for path in settings
        if path.startswith("observe.") and path.endswith(".every")
    )


def make_keys(settings: Mapping[str, Any]) -> rng.Keys:
    """The random keys of a run, from its own seeds alone."""
    return rng.run_keys(settings["seed"], **section_of(settings, "seeds"))


def data_identity(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a run's data depends on: runs that agree in it share one copy."""
    seed, own = settings["seed"], section_of(settings, "seeds")
    seeds = tuple(seed if own[name] < 0 else own[name] for name in ("data", "split"))
    return (*sorted(section_of(settings, "task").items()), *seeds)


def load_files(settings: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """What a task of real data reads, as the keyword argument that it takes."""
    load = TASKS[settings["task.name"]].load
    if load is None:
        return {}
    own = section_of(settings, "task")
    return {"files": _load(load, tuple((name, own[name]) for name in schema(load)))}


@lru_cache(maxsize=4)
def _load(load: Callable, arguments: tuple) -> dict[str, np.ndarray]:
    return load(**dict(arguments))


def make_dataset(settings: Mapping[str, Any], **files: Any) -> Dataset:
    """The data of a run; pure, so that it runs under jit with traced settings.

    `files` is what `load_files` has read, for a task of real data.
    """
    task = TASKS[settings["task.name"]]
    return task.make(make_keys(settings), **_arguments(settings, "task"), **files)


class Parts:
    """The parts of a run that more than training needs: network, kernel, rate."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = settings
        wrap = section_of(settings, "model")
        model = MODELS[wrap["name"]](**_arguments(settings, "model"))
        if settings["transfer.source"] != "none":
            model = model._replace(apply=wrappers.factored(model.apply))
        self.model = wrappers.scale_init(model, wrap["init_scale"])
        self.output_scale = wrap["output_scale"]
        self.linearized, self.centered = wrap["linearized"], wrap["centered"]
        rate = settings["optimizer.learning_rate"]
        if settings["optimizer.rule"] == "lazy" and self.model.dynamics is None:
            rate = optim.lazy_learning_rate(rate, self.output_scale, self.model.width)
        self.learning_rate = rate

    def lift(self, function: Callable, anchor: Params) -> Callable:
        """`function` of the parameters as the wrapped network sees them."""
        if self.linearized:
            function = ntk.linearize(function, anchor)
        if self.centered:
            function = wrappers.center(function, anchor)
        return function

    def network(self, anchor: Params) -> Apply:
        return wrappers.scale_output(
            self.lift(self.model.apply, anchor), self.output_scale
        )

    def kernel(
        self, params: Params, x1: Array, x2: Array, kind: ntk.Kind = "trace"
    ) -> Array:
        """The NTK of the network without its output scale; `trace` is [n1, n2]."""
        if self.model.kernel is not None:
            return self.model.kernel(params, x1, x2)
        other = None if x2 is x1 else x2
        return ntk.empirical_ntk(self.model.apply, params, x1, other, kind=kind)


def make(settings: Mapping[str, Any], keys: rng.Keys | None = None) -> Run:
    """The run of these settings; `keys` are its own unless given."""
    parts = Parts(settings)
    keys = keys or make_keys(settings)
    loss = LOSSES[settings["loss.name"]](**_arguments(settings, "loss"))
    arguments = _arguments(settings, "optimizer")
    tx = OPTIMIZERS[settings["optimizer.name"]](
        **{**arguments, "learning_rate": parts.learning_rate}
    )
    tx = _filtered(settings, tx)
    if settings["optimizer.norm"] == "fixed":
        tx = optim.fixed_norm(tx)
    if settings["transfer.source"] != "none" and settings["transfer.merge_at"]:
        tx = transfer.merging(tx, settings["transfer.merge_at"])
    size = settings["train.batch_size"]

    def init(data: Dataset) -> Start:
        params = parts.model.init(keys.init, data.train.x[:1])
        if parts.model.prepare:
            params = parts.model.prepare(params, data)
        return _transferred(settings, keys, params, data)

    def dynamics(anchor: Params, train: Split) -> Dynamics:
        assert parts.model.dynamics is not None
        y = train.y
        if parts.centered:  # f - f0 - y: as uncentred, with other targets
            y = y + parts.output_scale * parts.model.apply(anchor, train.x)
        return parts.model.dynamics(
            train.x,
            y,
            learning_rate=parts.learning_rate,
            output_scale=parts.output_scale,
        )

    return make_run(
        init=init,
        network=parts.network,
        loss=loss,
        tx=tx,
        dynamics=None if parts.model.dynamics is None else dynamics,
        batches=Batches(size, keys.batches) if size else None,
        observables=[_observable(parts, name) for name in observed_names(settings)],
        stop=_make_stop(settings),
    )


def _filtered(
    settings: Mapping[str, Any], tx: optax.GradientTransformation
) -> optax.GradientTransformation:
    """`tx` on the gradient as `optimizer.gradient` makes it."""
    own = section_of(settings, "optimizer")
    strength = own["grokfast_strength"]
    if own["gradient"] == "plain":
        return tx
    if own["gradient"] == "orthogonal":
        first = optim.orthogonal_gradient()
    elif own["gradient"] == "grokfast_ema":
        first = optim.grokfast_ema(decay=own["grokfast_decay"], strength=strength)
    else:
        first = optim.grokfast_ma(window=own["grokfast_window"], strength=strength)
    return optax.chain(first, tx)


def weak_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The run of the weak network: the same task and loss on full batches, an fnn and
    an AdamW of its own, and nothing else that was asked of the target."""
    own, parts = (
        section_of(settings, "transfer"),
        {"model": "fnn", "optimizer": "adamw"},
    )
    sections = {
        f"{section}.{key}": leaf.default
        for section, name in parts.items()
        for key, leaf in section_schema(section, name).items()
    }
    sections |= {f"{section}.name": name for section, name in parts.items()}
    shape = ("embedding", "width", "layers", "init_scale")
    model = {name: own[f"weak_{name}"] for name in shape}
    vocabulary = settings.get("model.vocabulary", 0)
    model["vocabulary"] = vocabulary
    model["outputs"] = settings.get("model.outputs", vocabulary)
    descent = {n: own[f"weak_{n}"] for n in ("learning_rate", "weight_decay")}
    kept = {
        path: value
        for path, value in settings.items()
        if path.split(".")[0] not in ("model", "optimizer", "transfer", "observe")
    }
    return {
        **kept,
        **sections,
        **{f"model.{name}": value for name, value in model.items()},
        **{f"optimizer.{name}": value for name, value in descent.items()},
        "transfer.source": "none",
        "stop.metric": "",
        "train.batch_size": 0,
    }


def _transferred(
    settings: Mapping[str, Any], keys: rng.Keys, params: Params, data: Dataset
) -> Start:
    """The parameters of the target with what `transfer` brings into them."""
    own = section_of(settings, "transfer")
    if own["source"] == "none":
        return Start(params, {})
    key = rng.named_key(keys.init, "transfer")
    trained = _weak_network(settings, keys._replace(init=key), data)
    table = tree.flat_names(trained.params)[own["weak_leaf"]]
    if own["form"] == "product":
        key, width = rng.named_key(key, "b"), params["embed"].shape[1]
        table = transfer.low_rank_embedding(key, table, width)
        table = table._replace(b=settings["model.init_scale"] * table.b)
    params = transfer.graft(params, {"embed": table})
    notes = {f"weak_{name}": value for name, value in trained.record.items()}
    notes["weak_steps_taken"] = trained.steps.astype(notes["weak_test_loss"].dtype)
    return Start(transfer.with_room(params) if own["merge_at"] else params, notes)


def _weak_network(
    settings: Mapping[str, Any], keys: rng.Keys, data: Dataset
) -> Trained:
    """The trained weak network: of `transfer.weak_candidates`, which differ in their
    initial parameters alone, the one of the lowest train loss.

    The test set has no say in the choice. A network as small as these hardly memorises,
    so that its train loss tells whether it has learned the rule.
    """
    own = section_of(settings, "transfer")

    def train(key: Array) -> Trained:
        return train_until(
            make(weak_settings(settings), keys._replace(init=key)),
            data,
            steps=own["weak_steps"] if own["source"] == "weak" else 0,
            accuracy=own["weak_accuracy"],
            every=own["weak_every"],
        )

    candidates = own["weak_candidates"] if own["source"] == "weak" else 1
    if candidates == 1:
        return train(keys.init)
    return _lowest_loss(jax.vmap(train)(jax.random.split(keys.init, candidates)))


def _lowest_loss(trained: Trained) -> Trained:
    """Of several networks [candidate, ...] that of the lowest train loss, never one
    that diverged; its steps are those of all of them."""
    loss = trained.record["train_loss"]
    best = jnp.argmin(jnp.where(jnp.isfinite(loss), loss, jnp.inf))
    chosen = jax.tree.map(lambda leaf: leaf[best], trained)
    return chosen._replace(steps=trained.steps.sum())


def _observable(parts: Parts, name: str) -> Observable:
    arguments = section_of(parts.settings, f"observe.{name}")
    every = arguments.pop("every")

    def measure(params: Params, anchor: Params, data: Dataset) -> dict[str, Array]:
        view = observables.View(
            apply=parts.network(anchor),
            params=params,
            anchor=anchor,
            data=data,
            kernel=lambda p, *rest: parts.kernel(
                anchor if parts.linearized else p, *rest
            ),
            lift=lambda function: parts.lift(function, anchor),
            model=section_of(parts.settings, "model"),
        )
        return OBSERVABLES[name](view, **arguments)

    return Observable(measure, every)


def _make_stop(settings: Mapping[str, Any]) -> Stop | None:
    return Stop(**section_of(settings, "stop")) if settings["stop.metric"] else None


def lazy_reference(
    settings: Mapping[str, Any], data: Dataset, anchor: Params, steps: np.ndarray
) -> dict[str, np.ndarray]:
    """The same run had its kernel never moved, in closed form (float64, on the host):
    lazy_train_loss and lazy_test_loss [S] at `steps`, and kernel_regression_loss [],
    the test loss of kernel regression with the initial NTK.

    Plain mean squared error and gradient descent; Kumar et al. 2024, Sec. 3.
    """
    parts = Parts(settings)
    x, x_test = data.train.x, data.test.x
    net = parts.network(anchor)
    k_train = _host(parts.kernel(anchor, x, x))
    k_test = _host(parts.kernel(anchor, x_test, x))
    f0, f0_test = _host(net(anchor, x)), _host(net(anchor, x_test))
    y, y_test = _host(data.train.y), _host(data.test.y)
    rate = float(np.asarray(parts.learning_rate))
    if parts.model.dynamics is None:
        rate *= float(np.asarray(parts.output_scale)) ** 2
    f, f_test = ntk.lazy_dynamics(
        k_train, y, k_test, rate, steps, f0_train=f0, f0_eval=f0_test
    )
    limit = f0_test + _host(ntk.kernel_regression(k_train, y - f0, k_test))
    return {
        "lazy_train_loss": _mean_square(_host(f) - y[None]),
        "lazy_test_loss": _mean_square(_host(f_test) - y_test[None]),
        "kernel_regression_loss": _mean_square((limit - y_test)[None])[0],
    }


def _host(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)


def _mean_square(residual: np.ndarray) -> np.ndarray:
    """[S, n] or [S, n, C] -> [S]: mean over examples of the sum over outputs."""
    square = residual**2
    return np.mean(square.reshape(*square.shape[:2], -1).sum(-1), axis=1)


def as_traced(values: list[Any], leaf: Leaf) -> np.ndarray:
    """A traced setting over runs as the array that the program takes."""
    return np.asarray(
        values, jnp.result_type(float) if leaf.kind is float else np.int32
    )
