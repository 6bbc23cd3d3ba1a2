"""Well-known networks at 1x3x224x224 with seeded weights: speed does not depend on what they learned."""

import onnx

from tests.models import Net

# (expansion, channels, blocks, stride of the first) of MobileNetV2's stages: Sandler et al. 2018, table 2.
MOBILE_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def resnet50(seed: int = 0) -> onnx.ModelProto:
    """ResNet-50 (He et al. 2016), its strides in the 3x3 layers as torchvision has them: 25.6 M weights."""
    net = Net("resnet50", [1, 3, 224, 224], seed)
    x = net.batch_norm(net.conv("x", "conv1", (3, 64), 7, stride=2), "bn1", 64)
    x = net.op("Relu", x, name="relu")
    x = net.op("MaxPool", x, name="maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _bottleneck(net, x, f"layer{stage}.{block}", (channels, width), stride)
            channels = 4 * width
    x = net.op("Flatten", net.op("GlobalAveragePool", x, name="avgpool"), name="flatten")
    net.linear(x, "fc", (channels, 1000), last=True)
    return net.finish()


def _bottleneck(net: Net, x: str, name: str, channels: tuple[int, int], stride: int) -> str:
    """Reduce by 1x1, convolve by 3x3, expand fourfold by 1x1, add the shortcut.

    The last batch norm has a small scale, so that activations stay near one through all blocks.
    """
    c, width = channels
    k, shortcut = 4 * width, x
    if stride != 1 or c != k:
        shortcut = net.conv(x, f"{name}.downsample.0", (c, k), 1, stride=stride, gain=1.0)
        shortcut = net.batch_norm(shortcut, f"{name}.downsample.1", k)
    y = net.batch_norm(net.conv(x, f"{name}.conv1", (c, width), 1), f"{name}.bn1", width)
    y = net.op("Relu", y, name=f"{name}.relu1")
    y = net.batch_norm(net.conv(y, f"{name}.conv2", (width, width), stride=stride), f"{name}.bn2", width)
    y = net.op("Relu", y, name=f"{name}.relu2")
    y = net.batch_norm(net.conv(y, f"{name}.conv3", (width, k), 1), f"{name}.bn3", k, 0.5)
    y = net.op("Add", y, shortcut, name=f"{name}.add")
    return net.op("Relu", y, name=f"{name}.relu3")


def mobilenetv2(seed: int = 0) -> onnx.ModelProto:
    """MobileNetV2 (Sandler et al. 2018) of width 1: 3.5 M weights."""
    net = Net("mobilenetv2", [1, 3, 224, 224], seed)
    x = net.relu6(net.batch_norm(net.conv("x", "stem", (3, 32), stride=2), "stem.bn", 32), "stem.relu6")
    channels = 32
    for stage, (expansion, k, blocks, stride) in enumerate(MOBILE_STAGES):
        for block in range(blocks):
            name = f"stage{stage}.{block}"
            x = _inverted_residual(net, x, name, (channels, k), expansion, 1 if block else stride)
            channels = k
    x = net.relu6(net.batch_norm(net.conv(x, "head", (channels, 1280), 1), "head.bn", 1280), "head.relu6")
    x = net.op("Flatten", net.op("GlobalAveragePool", x, name="avgpool"), name="flatten")
    net.linear(x, "fc", (1280, 1000), last=True)
    return net.finish()


def _inverted_residual(
    net: Net, x: str, name: str, channels: tuple[int, int], expansion: int, stride: int
) -> str:
    """Expand by 1x1, convolve each channel by 3x3, project by 1x1, add the input where shapes allow."""
    c, k = channels
    wide, y = c * expansion, x
    if expansion > 1:
        y = net.batch_norm(net.conv(y, f"{name}.expand", (c, wide), 1), f"{name}.expand.bn", wide)
        y = net.relu6(y, f"{name}.expand.relu6")
    y = net.conv(y, f"{name}.depthwise", (wide, wide), stride=stride, groups=wide)
    y = net.relu6(net.batch_norm(y, f"{name}.depthwise.bn", wide), f"{name}.depthwise.relu6")
    y = net.batch_norm(net.conv(y, f"{name}.project", (wide, k), 1, gain=1.0), f"{name}.project.bn", k)
    return net.op("Add", x, y, name=f"{name}.add") if stride == 1 and c == k else y
