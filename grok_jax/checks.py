"""Which parts go together: a sentence for each pair that does not."""

from collections.abc import Mapping
from typing import Any

from grok_jax.experiment import Descent
from grok_jax.settings import SettingError, schema

EXACT = ("committee_dynamics", "committee_flow")  # dynamics of the statistics
ONE_OUTPUT = ("polynomial", "eigenlabels")  # and every example with the same weight


def section_of(settings: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The settings of one section by their short names."""
    prefix = f"{section}."
    return {
        path.removeprefix(prefix): value
        for path, value in settings.items()
        if path.startswith(prefix)
    }


def observed_names(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The observables that these settings record."""
    return tuple(
        path.split(".")[1]
        for path in settings
        if path.startswith("observe.") and path.endswith(".every")
    )


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
    if settings["optimizer.rule"] == "lazy" and (
        "optimizer.learning_rate" not in settings
    ):
        raise SettingError(
            "optimizer.rule lazy scales optimizer.learning_rate, which optimizer.name "
            f"{optimizer} does not have."
        )
    if "output_alignment" in observed and model in EXACT:
        raise SettingError("observe.output_alignment needs a network with outputs.")


def _unused_grokfast(settings: Mapping[str, Any]) -> str:
    """The first setting of GrokFast that was changed and that nothing reads, or ""."""
    used = {
        "grokfast_ema": ("grokfast_decay", "grokfast_strength"),
        "grokfast_ma": ("grokfast_window", "grokfast_strength"),
    }.get(settings["optimizer.gradient"], ())
    leaves = schema(Descent)
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
