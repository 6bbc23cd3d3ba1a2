"""References: the kernel that those of a family take turns with when they are measured.

On a machine that does other things as well a kernel can take half as long again as it did a second ago. So
does its reference, which is alike in what it waits for, so their ratio hardly changes.
"""

from tersor.layer import Layer
from tersor.targets.cpu.host.detect import Host
from tersor.tuning.kernel_family import KernelFamily
from tersor.tuning.layer_workload import workload_of
from tersor.tuning.workload import Workload

_LAYERS = {
    "conv2d": Layer("reference", "conv2d", K=64, C=64, P=14, Q=14, R=3, S=3, padding=(1, 1, 1, 1)),
    "depthwise": Layer("reference", "conv2d", G=96, P=28, Q=28, R=3, S=3, padding=(1, 1, 1, 1)),
    "matmul": Layer("reference", "matmul", N=32, K=256, C=256),
}


def reference_of(family: KernelFamily, host: Host) -> Workload:
    """Give the reference of a family, a typical layer of it."""
    return workload_of(_LAYERS[family.operation], family.precision, host)
