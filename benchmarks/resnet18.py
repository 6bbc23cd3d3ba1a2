"""The convolutions and the product of ResNet-18 for images of 224 x 224, each shape once."""

from tersor.layer import Layer


def layers() -> list[Layer]:
    """Named by their channels, inputs first; the first convolution and the last product so."""
    found = [Layer("first", "conv2d", K=64, C=3, P=112, Q=112, R=7, S=7, stride=(2, 2), padding=(3, 3, 3, 3))]
    for outputs, inputs, size in (
        (64, 64, 56), (128, 64, 28), (128, 128, 28),
        (256, 128, 14), (256, 256, 14), (512, 256, 7), (512, 512, 7),
    ):  # fmt: skip
        stride = outputs // inputs
        shape = {"K": outputs, "C": inputs, "P": size, "Q": size, "stride": (stride, stride)}
        found.append(Layer(f"{inputs}-{outputs}", "conv2d", R=3, S=3, padding=(1, 1, 1, 1), **shape))
        if stride == 2:
            found.append(Layer(f"{inputs}-{outputs}, 1x1", "conv2d", **shape))
    return [*found, Layer("last", "matmul", K=1000, C=512)]
