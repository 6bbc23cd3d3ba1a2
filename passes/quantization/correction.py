"""Correction: what the bias of a layer takes up of the error of its weight, by all that calibration knows."""

import numpy as np

from tersor.error import UserError
from tersor.formats.matrix import matrix_of
from tersor.ir.chains import Chain
from tersor.ir.graph import Array, shape_of
from tersor.passes.quantization.bias_correction import bias_correction, bias_correction_by_rows
from tersor.statistics import Statistics, TensorStatistics


def correction_of(chain: Chain, weight: Array, rounded: Array, statistics: Statistics, name: str) -> Array:
    """Give what the bias of a layer, [K], takes up of the error of its rounded weight.

    `name` is that of the layer's input. Raises UserError if the statistics lack it.
    """
    if (gram := statistics.grams.get(chain.layer)) is not None:
        axis = 0 if chain.operator == "nn.conv2d" else 1
        return bias_correction_by_rows(matrix_of(weight, axis), matrix_of(rounded, axis), gram.mean)
    if chain.operator == "matmul" and len(shape_of(chain.data)) == 4:
        # Statistics take axis 1 of such a tensor as its channels.
        return np.zeros(weight.shape[1], np.float32)
    groups = int(chain.attributes.groups) if chain.operator == "nn.conv2d" else 1
    return bias_correction(weight, rounded, statistics_of(statistics, name).mean, groups)


def statistics_of(statistics: Statistics, name: str) -> TensorStatistics:
    """Give what calibration saw of a tensor. Raises UserError."""
    if name not in statistics.tensors:
        raise UserError(
            f"the calibration statistics lack the tensor {name!r}: calibrate the model this plan is for"
        )
    return statistics.tensors[name]
