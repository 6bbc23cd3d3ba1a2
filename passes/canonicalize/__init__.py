"""Canonicalize: bring the imported network to one form per layer.

    batch_norm(conv2d(x, w), ...)[0]              ->   add(conv2d(x, w'), b')        b' of shape [1, K, 1, 1]
    add(conv2d(x, w), reshape(b, [1, K, 1, 1]))   ->   add(conv2d(x, w), b)
    add(matmul(x, permute_dims(w)), b)            ->   add(matmul(x, w'), b)         w' [C, K], b [K]
    multiply(conv2d(x, w), s), add(s, ...)        ->   s and t go into w' and b'
    conv2d(nn.pad(x, zeros), w)                   ->   conv2d(x, w, padding=...)
    conv1d(x, w)                                  ->   conv2d(x, w)                  of height 1, reshaped
    matmul(w, x), matmul(x, vector)               ->   matmul(x, matrix)             between transposes
    minimum(maximum(x, 0), 6), clip(relu(x), 6)   ->   clip(x, 0, 6);  clip(x, 0, inf) -> relu(x)
    split(x)[1]                                   ->   strided_slice(x, ...)
    dropout, no-op reshape, cast, transpose, pad  ->   gone
    shape_to_tensor(shape_of(x))                  ->   a constant

What reads weights alone is computed here, in float64, and becomes a weight under the name of the first one it
reads; weights that nothing reads are gone.
"""

from tersor.passes.canonicalize.canonicalize import Canonicalize

__all__ = ["Canonicalize"]
