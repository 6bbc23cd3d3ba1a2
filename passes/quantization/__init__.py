"""The arithmetic of quantization in numpy: ranges of activations, codes of weights, corrected biases."""
