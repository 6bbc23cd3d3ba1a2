"""Widths: how many bits the tensors between layers take. They are stored as what reads them wants them."""

from collections.abc import Mapping

from tersor.network import Network
from tersor.scheme import Scheme


def readers(network: Network) -> dict[str, tuple[str, ...]]:
    """The layers that read the output of each layer, without those that read none of any layer."""
    found: dict[str, dict[str, None]] = {}
    for edge in network.edges:
        if edge.producer in network and edge.consumer in network:
            found.setdefault(edge.producer, {})[edge.consumer] = None
    return {name: tuple(consumers) for name, consumers in found.items()}


def output_bits(network: Network, schemes: Mapping[str, Scheme]) -> dict[str, int]:
    """Bits of an element that each layer writes: as wide as the widest input of the layers that it goes to.

    A sum in the epilogue of a layer reads as the layer does. Outputs of layers that none reads are not among
    them, they are as wide as their own layer's input. `schemes` are those that the machine carries out.
    """
    return {
        name: max(schemes[consumer].input_bits for consumer in consumers)
        for name, consumers in readers(network).items()
    }
