"""Training steps in PyTorch, with which the benchmark compares: the same network with
the same parameters and data, on the same device (float32, all cores).

The forms, as PyTorch's users write them:
  eager     autograd and torch.optim, one run
  compiled  one run with torch.func and torch.compile; on a GPU in a CUDA graph
  stacked   compiled for many runs by torch.func.vmap over parameters; shared data
  captured  stacked, in a CUDA graph but not compiled, if compilation for a GPU fails
"""

# pyright: reportMissingImports=false
import importlib.util
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks import timing
from benchmarks.timing import Row, Setup, as_text
from grok_jax.settings import SettingError
from grok_jax.types import Split

COMPILING = 3
"""On a CPU, PyTorch may compile for this many times as long as it is measured."""
Settings = Mapping[str, Any]
"""Flat settings: "model.width" and so on."""
Params = dict[str, Any]
"""Tensors by their paths, "layer_0/w"."""


def available() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def need() -> None:
    """Raises SettingError if PyTorch is not installed."""
    if not available():
        raise SettingError("This needs PyTorch: pip install 'grok_jax[bench]'.")


def compare(setup: Setup, goals: Mapping[str, float]) -> Iterator[Row]:
    """How many times as long as ours a run-step takes in PyTorch: for one run, eager
    and compiled, against one of ours on each device, and for many runs, stacked,
    against as many of ours. If a form fails for a model, its row says why. On a CPU the
    forms that PyTorch compiles are measured, with ours, in a separate process, because
    compiled code may end its process.

    Raises:
      SettingError: PyTorch is not installed, or does not support these devices.
    """
    need()
    device = {"cpu": "cpu", "gpu": "cuda"}.get(setup.platform)
    if device is None or not _can(device):
        raise SettingError(f"PyTorch does not support {setup.platform} devices here.")
    each = len(setup.devices)
    many = [runs for runs in setup.runs if runs > each]
    if device == "cpu":
        many = many[:1]  # compiling takes a minute for each
    row = _row_apart if device == "cpu" else _row
    for name in setup.workloads:
        first = _row(setup, name, "eager", each, device, goals.get(name))
        yield first
        yield row(setup, name, "compiled", each, device)
        for runs in many:
            expected = (first.numbers or {}).get("ours_s", 0.0) * runs
            stacked = row(setup, name, "stacked", runs, device, expected=expected)
            yield stacked
            left_out = stacked.note.startswith("left out")
            if stacked.measured is None and not left_out and device == "cuda":
                yield _row(setup, name, "captured", runs, device, expected=expected)


def _row(
    setup: Setup,
    name: str,
    form: str,
    runs: int,
    device: str,
    goal: float | None = None,
    expected: float = 0.0,
) -> Row:
    place = _place(name, form, runs)
    try:
        found = _both(setup, name, runs, form, device, expected)
    except Exception as error:  # PyTorch raises many types of errors
        return Row(place, None, "times", None, timing.failure(error))
    if isinstance(found, str):
        return Row(place, None, "times", None, f"left out: {found}")
    times = found["theirs_s"] / found["ours_s"]
    note = f"{as_text(found['ours_s'])} against {as_text(found['theirs_s'])}, "
    note += f"{runs} runs of ours; PyTorch ready in {as_text(found['start_s'])}"
    cpu_goal = goal if device == "cpu" else None
    return Row(place, times, "times", cpu_goal, note, at_least=True, numbers=found)


def _place(name: str, form: str, runs: int) -> str:
    return f"pytorch/{name}" + ("" if form == "eager" else f"/{form}/{runs}")


def _row_apart(
    setup: Setup, name: str, form: str, runs: int, device: str, expected: float = 0.0
) -> Row:
    """`_row` in a separate process, which may crash or compile for too long."""
    plain = {
        key: getattr(setup, key)
        for key in ("workloads", "runs", "mode", "seconds", "repeats", "most", "rates")
    }
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, plain, name, form, runs, device, expected)
    process = context.Process(target=_send_row, args=arguments, daemon=False)
    process.start()
    sender.close()
    note = f"left out: not ready in {as_text(COMPILING * setup.most)}"
    try:
        if receiver.poll(COMPILING * setup.most):
            return receiver.recv()
    except EOFError:
        note = "PyTorch ended its process"
    finally:
        process.kill()
        process.join()
    return Row(_place(name, form, runs), None, "times", None, note)


def _send_row(sender: Any, plain: Mapping[str, Any], *rest: Any) -> None:
    *place, expected = rest
    sender.send(_row(Setup(**plain), *place, expected=expected))


def _both(
    setup: Setup, name: str, runs: int, form: str, device: str, expected: float
) -> dict[str, Any] | str:
    """Seconds of a run-step, ours and PyTorch's in turn; or why it is left out."""
    mode = setup.modes[0]
    compiled, _ = setup.compiled(name, runs, mode)
    if why := setup.too_much(compiled, expected):
        return why
    sweep = timing.timed_sweep(setup.program(name, runs), mode)
    theirs = runs if form in ("stacked", "captured") else 1
    steps: list[Callable[[], Any]] = []

    def ready() -> None:
        made = make_step(*timing.first_run(sweep), form=form, runs=theirs, on=device)
        float(made().sum())
        steps.append(made)

    start = timing.seconds_of(ready)
    calls = partial(timing.advance, sweep), partial(_spent, steps[0], device)
    found = timing.lines(
        {
            name: timing.contender(call, setup.seconds, expected)
            for name, call in zip(("ours", "theirs"), calls, strict=True)
        },
        setup.repeats,
    )
    return dict(
        mode=mode,
        runs=runs,
        form=form,
        ours_s=found["ours"].slope / runs,
        theirs_s=found["theirs"].slope / theirs,
        start_s=start,
    )


def _can(device: str) -> bool:
    import torch

    return device == "cpu" or torch.cuda.is_available()


def _spent(step: Callable[[], Any], device: str, count: int) -> float:
    import torch

    started = time.perf_counter()
    for _ in range(count):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def make_step(
    settings: Settings,
    params: Any,
    train: Split,
    *,
    form: str = "eager",
    runs: int = 1,
    on: str = "cpu",
) -> Callable[[], Any]:
    """A training step with these settings, parameters and examples. Each call takes one
    step and returns the loss before it, one for each run if they are stacked."""
    import torch

    torch.set_float32_matmul_precision("highest")
    x, y = (torch.from_numpy(np.array(part)).to(on) for part in (train.x, train.y))
    x, y = (part.long() if part.dtype == torch.int32 else part for part in (x, y))
    tensors = _tensors(settings, params, on)
    if form == "eager":
        return _eager(settings, tensors, x, y)
    step = _functional(settings, tensors, x, y, 0 if form == "compiled" else runs)
    if form != "captured":
        torch._dynamo.reset()
        step = torch.compile(step)
    return _graph(step) if on == "cuda" else step


def _value(settings: Settings) -> Callable[[Params, Any, Any], Any]:
    network, loss = NETWORKS[settings["model.name"]](settings), _loss(settings)
    scale = settings["model.output_scale"]
    return lambda params, x, y: loss(scale * network(params, x), y)


def _eager(settings: Settings, params: Params, x: Any, y: Any) -> Callable[[], Any]:
    """The usual training loop: zero_grad, backward, step."""
    import torch

    if settings["model.name"] == "committee_dynamics":
        return _functional(settings, params, x, y, 0)
    value, batch = _value(settings), settings["train.batch_size"]
    leaves = {name: torch.nn.Parameter(leaf) for name, leaf in params.items()}
    optimizer = _optimizer(settings, list(leaves.values()))

    def step() -> Any:
        optimizer.zero_grad()
        if batch:
            rows = torch.randperm(len(x), device=x.device)[:batch]
            found = value(leaves, x[rows], y[rows])
        else:
            found = value(leaves, x, y)
        found.backward()
        optimizer.step()
        return found.detach()

    return step


def _functional(
    settings: Settings, params: Params, x: Any, y: Any, stacked: int
) -> Callable[[], Any]:
    """A step as one function that overwrites its tensors: loss, gradient and update, of
    `stacked` runs if that is not 0. Each run draws its own minibatches, with
    replacement, which costs less than without."""
    import torch

    names, batch = list(params), settings["train.batch_size"]
    exact = settings["model.name"] == "committee_dynamics"
    core = _exact(settings) if exact else torch.func.grad_and_value(_value(settings))
    if stacked:
        data_axis = 0 if batch else None
        core = torch.func.vmap(core, in_dims=(0, data_axis, data_axis))
        params = {name: torch.stack([leaf] * stacked) for name, leaf in params.items()}
    leaves = list(params.values())
    update, size = _updates(settings, leaves), (stacked, batch) if stacked else (batch,)

    def step() -> Any:
        examples = x, y
        if batch:
            rows = torch.randint(len(x), size, device=x.device)
            examples = x[rows], y[rows]
        new, found = core(dict(zip(names, leaves, strict=True)), *examples)
        values = [new[name] for name in names]
        if exact:
            torch._foreach_copy_(leaves, values)
        else:
            update(values)
        return found

    return step


def _graph(step: Callable[[], Any]) -> Callable[[], Any]:
    """Records the kernels of a step once in a CUDA graph, which each call replays."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()

    def again() -> Any:
        graph.replay()
        return found

    return again


def _updates(settings: Settings, leaves: list[Any]) -> Callable[[list[Any]], None]:
    """gradients -> None: updates the leaves by a step of AdamW or gradient descent."""
    import torch

    rate = _rate(settings)
    if settings["optimizer.name"] != "adamw":
        return lambda grads: torch._foreach_add_(leaves, grads, alpha=-rate)
    b1, b2 = settings["optimizer.b1"], settings["optimizer.b2"]
    decay = 1 - rate * settings["optimizer.weight_decay"]
    first, second = ([torch.zeros_like(leaf) for leaf in leaves] for _ in range(2))
    count = torch.zeros((), device=leaves[0].device)

    def update(grads: list[Any]) -> None:
        count.add_(1)
        torch._foreach_mul_(first, b1)
        torch._foreach_add_(first, grads, alpha=1 - b1)
        torch._foreach_mul_(second, b2)
        torch._foreach_addcmul_(second, grads, grads, 1 - b2)
        below = torch._foreach_sqrt(second)
        torch._foreach_div_(below, (1 - b2**count).sqrt())
        torch._foreach_add_(below, 1e-8)
        torch._foreach_mul_(leaves, decay)
        moves = torch._foreach_div(first, below)
        torch._foreach_mul_(moves, -rate)
        torch._foreach_div_(moves, 1 - b1**count)
        torch._foreach_add_(leaves, moves)

    return update


def _exact(settings: Settings) -> Callable[[Params, Any, Any], tuple[Params, Any]]:
    """A step of `theory.committee.exact_dynamics`."""
    epsilon, scale = settings["model.epsilon"], settings["model.output_scale"]

    def descend(params: Params, x: Any, y: Any) -> tuple[Params, Any]:
        c = 2 * settings["optimizer.learning_rate"] / (scale * len(x))
        mean, factor = params["wbar"], params["factor"]
        linear, spread = x @ mean, x @ factor
        quadratic = linear**2 + (spread**2).sum(-1)
        residual = scale * (linear + 0.5 * epsilon * quadratic) - y
        pull = c * residual
        new = {
            "wbar": mean - x.T @ (pull * (1 + epsilon * linear)),
            "factor": factor - x.T @ (epsilon * pull[:, None] * spread),
        }
        return new, (residual**2).mean()

    return descend


def _loss(settings: Settings) -> Callable:
    from torch.nn import functional

    name = settings["loss.name"]
    if name == "classification" and settings["loss.error"] == "cross_entropy":
        return functional.cross_entropy
    if name == "binary_cross_entropy":
        return functional.binary_cross_entropy_with_logits
    return functional.mse_loss


def _rate(settings: Settings) -> float:
    rate = settings["optimizer.learning_rate"]
    if settings["optimizer.rule"] == "lazy":
        rate *= settings["model.width"] / settings["model.output_scale"] ** 2
    return rate


def _optimizer(settings: Settings, leaves: list[Any]) -> Any:
    import torch

    if settings["optimizer.name"] == "adamw":
        return torch.optim.AdamW(
            leaves,
            lr=_rate(settings),
            weight_decay=settings["optimizer.weight_decay"],
            betas=(settings["optimizer.b1"], settings["optimizer.b2"]),
            fused=leaves[0].is_cuda,
        )
    return torch.optim.SGD(leaves, lr=_rate(settings))


def _tensors(settings: Settings, params: Any, on: str) -> Params:
    """Our parameters by their paths; an LSTM's matrices are transposed for PyTorch."""
    import torch

    transposed = settings["model.name"] == "lstm"
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    by_path = {"/".join(str(step.key) for step in path): leaf for path, leaf in leaves}
    return {
        name: torch.from_numpy(
            np.array(leaf).T.copy() if transposed and "/w_" in name else np.array(leaf)
        ).to(on)
        for name, leaf in by_path.items()
    }


def _affine(params: Params, name: str, x: Any) -> Any:
    import torch

    return torch.addmm(params[f"{name}/b"], x, params[f"{name}/w"])


def _mlp(settings: Settings) -> Callable[[Params, Any], Any]:
    import torch

    activation = {"relu": torch.relu, "tanh": torch.tanh}[settings["model.activation"]]

    def network(params: Params, x: Any) -> Any:
        names = sorted({name.split("/")[0] for name in params})
        for name in names[:-1]:
            x = activation(_affine(params, name, x))
        return _affine(params, names[-1], x)

    return network


def _fnn(_: Settings) -> Callable[[Params, Any], Any]:
    """Concatenated token embeddings, then linear layers with ReLU between them."""
    import torch

    def network(params: Params, x: Any) -> Any:
        h = params["embed"][x].flatten(1)
        names = sorted(name for name in params if name.startswith("layer_"))
        for name in names[:-1]:
            h = torch.relu(h @ params[name])
        return h @ params[names[-1]]

    return network


def _transformer(settings: Settings) -> Callable[[Params, Any], Any]:
    """One layer; every position of every sample is computed, and the last one read."""
    import torch

    size = settings["model.head_width"]

    def network(params: Params, tokens: Any) -> Any:
        layer = {name.split("/")[-1]: leaf for name, leaf in params.items()}
        x = params["embed"][tokens] + params["positions"]
        context = len(params["positions"])
        mask = torch.full((context, context), -torch.inf, device=x.device).triu(1)
        q, k, v = (
            torch.einsum("dhk,ntd->nhtk", layer[name], x)
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(-1, -2) / size**0.5 + mask
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + mixed @ layer["output"].flatten(0, 1)
        inner = torch.relu(x @ layer["mlp_in"] + layer["mlp_in_bias"])
        x = x + inner @ layer["mlp_out"] + layer["mlp_out_bias"]
        return (x @ params["unembed"])[:, -1]

    return network


def _lstm(settings: Settings) -> Callable[[Params, Any], Any]:
    """Embeddings, the LSTM of nn.LSTM, and a linear read-out after the last token."""
    import torch

    layers, hidden = settings["model.layers"], settings["model.hidden"]

    def network(params: Params, tokens: Any) -> Any:
        weights = [
            params[f"layer_{i}/{kind}_{part}"]
            for i in range(layers)
            for kind in ("w", "b")
            for part in ("input", "hidden")
        ]
        start = torch.zeros(layers, len(tokens), hidden, device=tokens.device)
        states, _, _ = torch.lstm(
            params["embedding"][tokens],
            (start, start),
            weights,
            True,  # biases
            layers,
            0.0,  # dropout
            True,  # training
            False,  # bidirectional
            True,  # batch first
        )
        return _affine(params, "readout", states[:, -1])[:, 0]

    return network


def _gcn(_: Settings) -> Callable[[Params, Any], Any]:
    """Two edge-conditioned convolutions, computed like NNConv of PyTorch Geometric: the
    edge network makes a matrix for every bond, and messages are summed at the atoms."""
    import torch

    def convolve(params: Params, name: str, h: Any, bonds: tuple[Any, ...]) -> Any:
        target, source, kind = bonds
        root = params[f"{name}/root"]
        inner = torch.relu(_affine(params, f"{name}/edge_0", kind))
        theta = _affine(params, f"{name}/edge_1", inner).view(-1, *root.shape)
        messages = torch.bmm(h[source].unsqueeze(1), theta).squeeze(1)
        gathered = torch.zeros(len(h), root.shape[1], device=h.device)
        gathered = gathered.index_add(0, target, messages)
        return torch.relu(h @ root + params[f"{name}/bias"] + gathered)

    def network(params: Params, x: Any) -> Any:
        count, atoms, columns = x.shape
        features = columns - 4 * atoms
        h, bonds = x[..., :features], x[..., features:].view(count, atoms, 4, atoms)
        graph, target, kind, source = bonds.nonzero(as_tuple=True)
        target, source = graph * atoms + target, graph * atoms + source
        one_hot = torch.nn.functional.one_hot(kind, 4).float()
        is_atom = (h != 0).any(-1, keepdim=True)
        h = h.flatten(0, 1)
        for name in ("conv_0", "conv_1"):
            h = convolve(params, name, h, (target, source, one_hot))
        pooled = (h.view(count, atoms, -1) * is_atom).sum(1)
        dense = torch.relu(_affine(params, "dense", pooled))
        return _affine(params, "readout", dense)[:, 0]

    return network


def _committee(settings: Settings) -> Callable[[Params, Any], Any]:
    epsilon = settings["model.epsilon"]

    def network(params: Params, x: Any) -> Any:
        h = x @ params["w"].T
        return (h + 0.5 * epsilon * h**2).mean(-1)

    return network


NETWORKS: dict[str, Callable[[Settings], Callable[[Params, Any], Any]]] = {
    "mlp": _mlp,
    "fnn": _fnn,
    "transformer": _transformer,
    "lstm": _lstm,
    "gcn": _gcn,
    "committee": _committee,
}
"""Model -> (its settings) -> network(parameters, inputs)."""
