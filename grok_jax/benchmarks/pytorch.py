"""The steps that `benchmark` compares with, written the usual way in PyTorch (eager,
float32, all cores): the same network from the same parameters on the same data."""

# pyright: reportMissingImports=false
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from grok_jax.settings import SettingError
from grok_jax.types import Split

Settings = Mapping[str, Any]
"""Flat: "model.width" and so on."""


def available() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def need() -> None:
    """Raises SettingError where it is not."""
    if not available():
        raise SettingError("This needs PyTorch: pip install 'grok_jax[bench]'.")


def make_step(settings: Settings, params: Any, train: Split) -> Callable[[], Any]:
    """A training step of these settings from these parameters on these examples; each
    call takes one and returns the loss before it."""
    import torch

    x, y = (torch.from_numpy(np.array(part)) for part in (train.x, train.y))
    x, y = (part.long() if part.dtype == torch.int32 else part for part in (x, y))
    if settings["model.name"] == "committee_dynamics":
        return _exact_step(settings, params, x, y)
    network, leaves = NETWORKS[settings["model.name"]](settings, params)
    loss, optimizer = _loss(settings), _optimizer(settings, leaves)
    scale, batch = settings["model.output_scale"], settings["train.batch_size"]

    def step() -> Any:
        optimizer.zero_grad()
        if batch:
            rows = torch.randperm(len(x))[:batch]
            value = loss(scale * network(x[rows]), y[rows])
        else:
            value = loss(scale * network(x), y)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def _exact_step(settings: Settings, params: Any, x: Any, y: Any) -> Callable[[], Any]:
    """`theory.committee.factored_step`."""
    import torch

    epsilon, scale = settings["model.epsilon"], settings["model.output_scale"]
    c = 2 * settings["optimizer.learning_rate"] / (scale * len(x))
    state = [torch.from_numpy(np.array(params[name])) for name in ("wbar", "factor")]

    def step() -> Any:
        mean, factor = state
        linear = x @ mean
        quadratic = linear**2 + ((x @ factor) ** 2).sum(-1)
        residual = scale * (linear + 0.5 * epsilon * quadratic) - y
        g, matrix = x.T @ residual, x.T @ (x * residual[:, None])
        state[0] = mean - c * epsilon * (matrix @ mean) - c * g
        state[1] = factor - c * epsilon * (matrix @ factor)
        return (residual**2).mean()

    return step


def _loss(settings: Settings) -> Callable:
    from torch.nn import functional

    name = settings["loss.name"]
    if name == "classification" and settings["loss.error"] == "cross_entropy":
        return functional.cross_entropy
    if name == "binary_cross_entropy":
        return functional.binary_cross_entropy_with_logits
    return functional.mse_loss


def _optimizer(settings: Settings, leaves: list[Any]) -> Any:
    import torch

    rate = settings["optimizer.learning_rate"]
    if settings["optimizer.name"] == "adamw":
        return torch.optim.AdamW(
            leaves,
            lr=rate,
            weight_decay=settings["optimizer.weight_decay"],
            betas=(settings["optimizer.b1"], settings["optimizer.b2"]),
        )
    if settings["optimizer.rule"] == "lazy":
        rate *= settings["model.width"] / settings["model.output_scale"] ** 2
    return torch.optim.SGD(leaves, lr=rate)


def _parameter(value: Any) -> Any:
    import torch

    return torch.nn.Parameter(torch.from_numpy(np.array(value)))


def _linear(w: Any, b: Any | None = None) -> Any:
    """nn.Linear of w [in, out] and b [out]."""
    import torch

    layer = torch.nn.Linear(*np.shape(w), bias=b is not None)
    layer.weight = _parameter(np.asarray(w).T)
    if b is not None:
        layer.bias = _parameter(b)
    return layer


def _mlp(settings: Settings, params: Any) -> tuple[Callable, list[Any]]:
    from torch import nn

    kind = {"relu": nn.ReLU, "tanh": nn.Tanh}[settings["model.activation"]]
    linears = [_linear(layer["w"], layer["b"]) for layer in params.values()]
    layers = [part for linear in linears for part in (linear, kind())][:-1]
    net = nn.Sequential(*layers)
    return net, list(net.parameters())


def _fnn(settings: Settings, params: Any) -> tuple[Callable, list[Any]]:
    """Embeddings of the tokens side by side, then linear layers with ReLU between."""
    from torch import nn

    del settings
    table = nn.Embedding.from_pretrained(_parameter(params["embed"]), freeze=False)
    names = sorted(name for name in params if name.startswith("layer_"))
    linears = [_linear(params[name]) for name in names]
    layers = [part for linear in linears for part in (linear, nn.ReLU())][:-1]
    net = nn.Sequential(*layers)

    def network(x: Any) -> Any:
        return net(table(x).flatten(1))

    return network, [*table.parameters(), *net.parameters()]


def _transformer(settings: Settings, params: Any) -> tuple[Callable, list[Any]]:
    """One layer, every position computed for every sample, the last one read."""
    import torch

    own = {
        name: _parameter(value)
        for name, value in {**params, **params["layer_0"]}.items()
        if name != "layer_0"
    }
    size = settings["model.head_width"]
    context = len(params["positions"])
    hidden = torch.triu(torch.full((context, context), -torch.inf), diagonal=1)

    def network(tokens: Any) -> Any:
        x = own["embed"][tokens] + own["positions"]
        q, k, v = (
            torch.einsum("dhk,ntd->nhtk", own[name], x)
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(-1, -2) / size**0.5 + hidden
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + mixed @ own["output"].flatten(0, 1)
        inner = torch.relu(x @ own["mlp_in"] + own["mlp_in_bias"])
        x = x + inner @ own["mlp_out"] + own["mlp_out_bias"]
        return (x @ own["unembed"])[:, -1]

    return network, list(own.values())


def _lstm(settings: Settings, params: Any) -> tuple[Callable, list[Any]]:
    """nn.Embedding, nn.LSTM and a linear read-out after the last token."""
    import torch
    from torch import nn

    layers, hidden = settings["model.layers"], settings["model.hidden"]
    table = nn.Embedding.from_pretrained(_parameter(params["embedding"]), freeze=False)
    cells = nn.LSTM(table.embedding_dim, hidden, layers, batch_first=True)
    named = {"ih": "input", "hh": "hidden"}
    with torch.no_grad():
        for i in range(layers):
            for theirs, ours in named.items():
                layer = params[f"layer_{i}"]
                weight = torch.from_numpy(np.array(layer[f"w_{ours}"]).T)
                getattr(cells, f"weight_{theirs}_l{i}").copy_(weight)
                bias = torch.from_numpy(np.array(layer[f"b_{ours}"]))
                getattr(cells, f"bias_{theirs}_l{i}").copy_(bias)
    readout = _linear(params["readout"]["w"], params["readout"]["b"])

    def network(tokens: Any) -> Any:
        states, _ = cells(table(tokens))
        return readout(states[:, -1])[:, 0]

    parts = (table, cells, readout)
    return network, [leaf for part in parts for leaf in part.parameters()]


def _gcn(settings: Settings, params: Any) -> tuple[Callable, list[Any]]:
    """Two edge-conditioned convolutions as NNConv of PyTorch Geometric computes them:
    the edge network's matrix for every bond, its messages summed at the atoms."""
    import torch
    from torch import nn

    del settings
    dense, readout = (_linear(**params[name]) for name in ("dense", "readout"))
    leaves = [*dense.parameters(), *readout.parameters()]

    def convolution(own: Any) -> Callable:
        first, second = (_linear(**own[name]) for name in ("edge_0", "edge_1"))
        net = nn.Sequential(first, nn.ReLU(), second)
        root, bias = _parameter(own["root"]), _parameter(own["bias"])
        leaves.extend([*net.parameters(), root, bias])

        def convolve(h: Any, target: Any, source: Any, kind: Any) -> Any:
            theta = net(kind).view(-1, *root.shape)
            messages = torch.bmm(h[source].unsqueeze(1), theta).squeeze(1)
            gathered = torch.zeros(len(h), root.shape[1]).index_add(0, target, messages)
            return h @ root + bias + gathered

        return convolve

    convolutions = [convolution(params[name]) for name in ("conv_0", "conv_1")]

    def network(x: Any) -> Any:
        count, atoms, columns = x.shape
        features = columns - 4 * atoms
        h, bonds = x[..., :features], x[..., features:].view(count, atoms, 4, atoms)
        graph, target, kind, source = bonds.nonzero(as_tuple=True)
        target, source = graph * atoms + target, graph * atoms + source
        one_hot = nn.functional.one_hot(kind, 4).float()
        is_atom = (h != 0).any(-1, keepdim=True)
        h = h.flatten(0, 1)
        for convolve in convolutions:
            h = torch.relu(convolve(h, target, source, one_hot))
        pooled = (h.view(count, atoms, -1) * is_atom).sum(1)
        return readout(torch.relu(dense(pooled)))[:, 0]

    return network, leaves


def _committee(settings: Settings, params: Any) -> tuple[Callable, list[Any]]:
    w, epsilon = _parameter(params["w"]), settings["model.epsilon"]

    def network(x: Any) -> Any:
        h = x @ w.T
        return (h + 0.5 * epsilon * h**2).mean(-1)

    return network, [w]


NETWORKS: dict[str, Callable[[Settings, Any], tuple[Callable, list[Any]]]] = {
    "mlp": _mlp,
    "fnn": _fnn,
    "transformer": _transformer,
    "lstm": _lstm,
    "gcn": _gcn,
    "committee": _committee,
}
"""Model -> (its settings, our parameters) -> (network, leaves to train)."""
