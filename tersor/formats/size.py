"""Size: the bytes that a layer's constants take under a scheme, in closed form."""

from tersor.formats.grids import group_of
from tersor.formats.matrix import matrix_shape
from tersor.formats.placement import Kept, entry_bytes, expected, placement_bytes
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.sparsity import NM, Block, Channels
from tersor.weight_format import Codebook, Float, Microscaling, WeightFormat, has_integer_codes


def stored_bytes(layer: Layer, scheme: Scheme, bias: bool = True, kept: Kept | None = None) -> int:
    """Bytes of the layer's constants under `scheme`: entries, scales, table, positions, factors and the bias.

    Integer codes have one float32 scale per output channel, or per row of a table; the bias, 4 bytes per
    output channel (int32 or float32), is the last factor's. A layer without a weight stores nothing. `kept`
    says how many entries a sparse weight has; without it they are those of a weight whose zeros lie anywhere.
    Raises ValueError if the sparsity does not fit the weight.
    """
    if not layer.weight_bearing:
        return 0
    parts = layer.factored(scheme.factor) if scheme.factor else (layer,)
    stored = sum(_weight_bytes(part, scheme, kept) for part in parts)
    return stored + (4 * layer.G * layer.K if bias and layer.operator != "gather" else 0)


def reads_codes(scheme: Scheme, scales_rows: bool) -> bool:
    """Whether a layer's operator is given int8 codes: with integer inputs, or where it scales rows itself.

    Tables and recurrent loops (`scales_rows`) multiply what they read of int8 codes by a scale for each row
    or column; groups of weights and floating-point formats come to them, too, as float32.
    """
    if scheme.weight is None or not has_integer_codes(scheme.weight):
        return False
    grouped = group_of(scheme.weight, integer=False) is not None
    return scheme.input is not None or (scales_rows and not grouped)


def _weight_bytes(layer: Layer, scheme: Scheme, kept: Kept | None) -> int:
    shape, bits = matrix_shape(layer), scheme.weight_bits
    sparsity = None if isinstance(scheme.sparsity, Channels) else scheme.sparsity
    integer = reads_codes(scheme, layer.recurrent or layer.operator == "gather")
    scales = _scale_bytes(shape, scheme.weight, integer) if scheme.weight else 0
    if sparsity is None:
        return entry_bytes(shape, None, None, bits) + scales
    _check_divides(layer, sparsity)
    kept = kept or expected(shape, sparsity, bits)
    return entry_bytes(shape, sparsity, kept, bits) + placement_bytes(shape, sparsity, kept) + scales


def _check_divides(layer: Layer, sparsity: object) -> None:
    match sparsity:
        case NM() if layer.C % sparsity.m:
            raise ValueError(
                f"{sparsity} sparsity needs a multiple of {sparsity.m} input channels, got {layer.C}"
            )
        case Block() if layer.C % sparsity.inputs or layer.G * layer.K % sparsity.outputs:
            raise ValueError(
                f"{sparsity} sparsity needs multiples of {sparsity.outputs} output and {sparsity.inputs} "
                f"input channels, got {layer.G * layer.K} and {layer.C}"
            )


def _scale_bytes(shape: tuple[int, int], weight: WeightFormat, integer: bool) -> int:
    rows, columns = shape
    group = group_of(weight, integer)
    groups = 1 if group is None else -(-columns // group)
    if integer:
        table = 1 << weight.bits if isinstance(weight, Codebook) else 0
        return 4 * rows + table + (rows * groups if groups > 1 else 0)
    match weight:
        case Codebook(bits):
            return 4 << bits
        case Float("fp16") | Float("bf16"):
            return 0
        case Microscaling():
            return rows * groups
        case _:
            return 4 * rows * groups
