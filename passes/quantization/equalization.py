"""Equalization: scales per channel that move through an activation into the weights on both sides of it.

    conv2d(relu(conv2d(x, w) + b), v)   ->   conv2d(relu(conv2d(x, w / s) + b / s), v * s)

The network computes the same, as relu(x / s) = relu(x) / s for s > 0; only its numbers lie closer together.
Two ways to choose s for a channel with the largest weight r before it, t behind it and the largest value a:

    s = sqrt(r / t)             both weights get the same range (Nagel et al., Data-Free Quantization through
                                Weight Equalization and Bias Correction, ICCV 2019, eq. 11)
    s = a^alpha / t^(1 - alpha) a share of the activation's spread goes into the weights behind it
                                (SmoothQuant, Xiao et al., ICML 2023, eq. 4)

A layer norm takes up 1 / s in its gain and shift. A clip at 6 is not homogeneous: below it a channel that has
never come near may move as far as leaves it so, any other stays.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.gram import Gram
from tersor.ir.chains import Chain, find_chains
from tersor.ir.graph import Array, Expr, Graph, Module, operator, replace_weights, shape_of
from tersor.passes.extract import tensor_names
from tersor.passes.quantization.channel_steps import times_steps
from tersor.statistics import Statistics, TensorStatistics

Floats = NDArray[np.float64]

SWEEPS = 20
"""Passes over all links of a network: a layer with neighbours on both sides meets in the middle."""
CLOSE = 1e-3
"""Relative change of all scales at which the passes end."""
CLIP_MARGIN = 1.25
"""A channel counts as never clipped if it stays this factor below the clip, before and after."""


@dataclass(frozen=True, eq=False)
class Link:
    """What makes a tensor of some channels, and the layers that alone read it."""

    tensor: str  # its name in the statistics
    passed: tuple[str, ...]  # the tensors that hold its channels on the way to the consumers, itself first
    gains: tuple[Expr, ...]  # weights that are divided: of a layer, or the gain of a norm
    shifts: tuple[Expr, ...]  # biases that are divided
    consumers: tuple[Chain, ...]
    channels: int
    clip: float | None  # what an activation cuts off above, if it does

    def before(self, weights: dict[Expr, Array]) -> Floats | None:
        """The largest weight before each channel, or None behind a norm, whose gain has no grid."""
        weight = weights[self.gains[0]]
        if weight.ndim == 1:
            return None
        rows = np.abs(weight if weight.ndim == 4 else weight.T).reshape(self.channels, -1)
        return rows.max(axis=1).astype(np.float64)

    def behind(self, weights: dict[Expr, Array]) -> Floats:
        """The largest weight behind each channel, [channels]."""
        return np.max([_by_channel(weights[chain.weight], self.channels) for chain in self.consumers], axis=0)


def equalize(
    mod: Module, statistics: Statistics | None, by_weights: bool, alpha: float
) -> tuple[Module, Statistics | None]:
    """Scale the channels of a canonical float module, and what is known of them.

    `by_weights` brings weights on both sides to one range, then `alpha` > 0 moves that share of the spread of
    activations. Without statistics nothing moves through a clip or by `alpha`.
    """
    graph = Graph(mod)
    links = find_links(graph)
    weights = dict(graph.weights)
    total = {link.tensor: np.ones(link.channels) for link in links}
    found = statistics.tensors if statistics is not None else {}

    def move(link: Link, factors: Floats) -> float:
        seen = found.get(link.tensor)
        factors = _within_clip(link, factors, seen, total[link.tensor])
        if (factors == 1).all():
            return 0.0
        _apply(link, factors, weights)
        total[link.tensor] *= factors
        return float(np.abs(np.log(factors)).max())

    if by_weights:
        _until_close(links, lambda link: move(link, _by_weights(link, weights)))
    if alpha > 0:
        for link in links:
            if (seen := found.get(link.tensor)) is not None:
                move(link, _by_spread(link, weights, seen, total[link.tensor], alpha))
    changed = {var.name: value for var, value in weights.items() if value is not graph.weights[var]}
    if not changed:
        return mod, statistics
    scaled = None if statistics is None else _scaled(statistics, links, total)
    return replace_weights(mod, changed), scaled


def find_links(graph: Graph) -> list[Link]:
    """Find the tensors whose channels can be scaled, in the order of the network."""
    names = tensor_names(graph.mod)
    heads = {chain.variables[0]: chain for chain in find_chains(graph)}
    links = []
    for chain in heads.values():
        low, high = chain.limits
        homogeneous = chain.residual is None and low in (None, 0.0)
        named = chain.bias is None or (bool(chain.bias_name) and _is_own(graph, _bias(graph, chain)))
        if homogeneous and named and _is_own(graph, chain.weight):
            shifts = () if chain.bias is None else (_bias(graph, chain),)
            links.append(_link(graph, names, heads, chain.result, (chain.weight,), shifts, high))
    for var, value in graph.bindings:
        if operator(value) == "nn.layer_norm":
            _, gain, shift = value.args[:3]
            known = all(each in graph.weights and _is_own(graph, each) for each in (gain, shift))
            if known and graph.weights[gain].ndim == 1:
                links.append(_link(graph, names, heads, var, (gain,), (shift,), None))
    return [link for link in links if link is not None]


def _link(
    graph: Graph,
    names: dict[Expr, str],
    heads: dict[Expr, Chain],
    result: Expr,
    gains: tuple[Expr, ...],
    shifts: tuple[Expr, ...],
    clip: float | None,
) -> Link | None:
    """Follow a tensor through what keeps its channels to the layers that read it, if nothing else does."""
    passed, channels = [result], _channels(result)
    while (user := graph.only_user(passed[-1])) is not None and user not in heads:
        if not _keeps_channels(graph, user, channels):
            return None
        passed.append(user)
    users = list(dict.fromkeys(graph.users(passed[-1])))
    if not users or any(user not in heads or graph.is_output(var) for user in users for var in passed):
        return None
    consumers = [heads[user] for user in users]
    fits = all(
        _is_own(graph, chain.weight)
        and chain.data.same_as(passed[-1])
        and _reads_channels(graph, chain, channels)
        for chain in consumers
    )
    if not fits or passed[0] not in names:
        return None
    known = tuple(names[var] for var in passed if var in names)
    return Link(known[0], known, gains, shifts, tuple(consumers), channels, clip)


def _keeps_channels(graph: Graph, var: Expr, channels: int) -> bool:
    """Whether an operator scales with its channels: pools, means over the image, views of one pixel."""
    value = graph.definition(var)
    match operator(value):
        case "nn.max_pool2d" | "nn.avg_pool2d":
            return True
        case "mean":
            axes = value.attrs.axis
            return axes is not None and len(shape_of(value.args[0])) == 4 and [int(a) for a in axes] == [2, 3]
        case "reshape" | "squeeze" | "flatten":
            before, after = shape_of(value.args[0]), shape_of(var)
            return len(before) == 4 and before[2:] == (1, 1) and after == (before[0], channels)
        case _:
            return False


def _reads_channels(graph: Graph, chain: Chain, channels: int) -> bool:
    weight = graph.weights[chain.weight]
    if weight.ndim == 2:
        return weight.shape[0] == channels
    return weight.shape[1] * int(chain.attributes.groups) == channels


def _by_weights(link: Link, weights: dict[Expr, Array]) -> Floats:
    before, behind = link.before(weights), link.behind(weights)
    if before is None:
        return np.ones(link.channels)
    usable = (before > 0) & (behind > 0)
    return np.where(usable, np.sqrt(np.where(usable, before, 1) / np.where(usable, behind, 1)), 1.0)


def _by_spread(
    link: Link, weights: dict[Expr, Array], seen: TensorStatistics, moved: Floats, alpha: float
) -> Floats:
    reach = np.maximum(-seen.channel_minimum, seen.channel_maximum)
    if reach.shape != moved.shape:
        return np.ones(link.channels)
    reach, behind = reach / moved, link.behind(weights)
    usable = (reach > 0) & (behind > 0)
    if not usable.any():
        return np.ones(link.channels)
    factors = np.where(usable, reach, 1) ** alpha / np.where(usable, behind, 1) ** (1 - alpha)
    # Which unit all channels have in common does not matter; so it stays.
    return np.where(usable, factors / np.exp(np.log(factors[usable]).mean()), 1.0)


def _within_clip(link: Link, factors: Floats, seen: TensorStatistics | None, moved: Floats) -> Floats:
    """Keep a channel that meets a clip, or would, as it is."""
    if link.clip is None:
        return factors
    if seen is None or seen.channel_maximum.shape != factors.shape:
        return np.ones_like(factors)
    reach = CLIP_MARGIN * seen.channel_maximum
    is_free = reach < link.clip
    # What is divided by less than this would reach the clip.
    return np.where(is_free, np.maximum(factors, reach / (moved * link.clip)), 1.0)


def _apply(link: Link, factors: Floats, weights: dict[Expr, Array]) -> None:
    for var in (*link.gains, *link.shifts):
        weight = weights[var]
        shape = (-1, 1, 1, 1) if weight.ndim == 4 and len(weight) == link.channels else None
        divisor = factors.reshape(shape) if shape else factors.reshape(_along_channels(weight, link.channels))
        weights[var] = (weight / divisor).astype(np.float32)
    for chain in link.consumers:
        weights[chain.weight] = times_steps(weights[chain.weight], tuple(factors.tolist()))


def _along_channels(weight: Array, channels: int) -> tuple[int, ...]:
    """The shape that broadcasts a value per channel over a bias [1, K, 1, 1] or [K], or a matrix [C, K]."""
    return (1, channels, 1, 1) if weight.ndim == 4 else (channels,)


def _until_close(links: list[Link], move: Callable[[Link], float]) -> None:
    for _ in range(SWEEPS):
        if max((move(link) for link in links), default=0.0) < CLOSE:
            return


def _scaled(statistics: Statistics, links: list[Link], total: dict[str, Floats]) -> Statistics:
    """What is known of the scaled channels: extremes, moments, Gram matrices; histograms stay as they are."""
    tensors, grams = dict(statistics.tensors), dict(statistics.grams)
    for link in links:
        factors = total[link.tensor]
        for name in link.passed:
            if name in tensors and tensors[name].mean.shape == factors.shape:
                tensors[name] = _of_scaled_channels(tensors[name], factors)
        for chain in link.consumers:
            if (gram := grams.get(chain.layer)) is not None:
                grams[chain.layer] = scaled_gram(gram, factors)
    return replace(statistics, tensors=tensors, grams=grams)


def scaled_gram(gram: Gram, factors: Floats) -> Gram:
    """The Gram matrix of an input whose channels, [G * C], are divided by factors."""
    channels = len(factors) // gram.groups
    columns = np.tile(factors.reshape(gram.groups, channels), (1, gram.columns // channels))
    moment = gram.second_moment / (columns[:, :, None] * columns[:, None, :])
    return Gram(moment.astype(np.float32), gram.mean / columns, gram.rows)


def _of_scaled_channels(seen: TensorStatistics, factors: Floats) -> TensorStatistics:
    low, high = seen.channel_minimum / factors, seen.channel_maximum / factors
    return replace(
        seen,
        minimum=float(low.min()),
        maximum=float(high.max()),
        lo=min(seen.lo, float(low.min())),
        hi=max(seen.hi, float(high.max())),
        mean=seen.mean / factors,
        second_moment=seen.second_moment / np.square(factors),
        channel_minimum=low,
        channel_maximum=high,
    )


def _by_channel(weight: Array, channels: int) -> Floats:
    """The largest weight that meets each input channel of a layer, [channels]."""
    magnitudes = np.abs(weight).astype(np.float64)
    if weight.ndim == 2:
        return magnitudes.max(axis=1)
    groups = channels // weight.shape[1]
    return magnitudes.reshape(groups, -1, weight.shape[1], weight[0, 0].size).max(axis=(1, 3)).reshape(-1)


def _bias(graph: Graph, chain: Chain) -> Any:
    return next((var for var in graph.weights if var.name == chain.bias_name), None)


def _is_own(graph: Graph, weight: Any) -> bool:
    """Whether a weight is read once."""
    return weight is not None and len(graph.users(weight)) == 1


def _channels(var: Expr) -> int:
    shape = shape_of(var)
    return shape[1] if len(shape) == 4 else shape[-1]
