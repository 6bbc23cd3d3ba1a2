"""Kernel family: layers whose kernels have the same loops, so that one can be learned from another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from tersor.layer import Layer
from tersor.scheme import Scheme

Operation = Literal["conv2d", "depthwise", "matmul"]
Precision = Literal["int8", "fp32"]


@dataclass(frozen=True)
class KernelFamily:
    """An operation and the numbers that it multiplies; dense layers and products of activations are one."""

    operation: Operation
    precision: Precision

    def __str__(self) -> str:
        return f"{self.operation} {self.precision}"

    @classmethod
    def all(cls) -> Iterator["KernelFamily"]:
        """Give every family."""
        for operation in get_args(Operation):
            for precision in get_args(Precision):
                yield cls(operation, precision)

    @classmethod
    def of(cls, layer: Layer, scheme: Scheme) -> "KernelFamily | None":
        """Give the family of a layer's kernel; none for a table and for a recurrent layer."""
        if layer.operator == "gather" or layer.recurrent:
            return None
        operation: Operation = "matmul"
        if layer.operator == "conv2d":
            operation = "depthwise" if layer.is_depthwise and layer.K == 1 else "conv2d"
        return cls(operation, "int8" if scheme.input else "fp32")
