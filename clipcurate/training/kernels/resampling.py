"""Antialiased bicubic resampling along the rows of an image, as Pillow and torchvision do it."""

import numpy as np

from clipcurate.kernels.compiling import inlined, kernel

A = -0.5
"""The parameter of Keys' cubic convolution, as Pillow has it."""


@inlined
def cubic(x):
    """Return Keys' cubic convolution kernel at x ≥ 0."""
    if x < 1.0:
        return ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * A
    return 0.0


@kernel
def resample_rows(rows, low, high, out):
    """Resample the interval [low, high) of the rows of an image to all rows of `out`.

    Both are uint8 of shape (rows, width · channels). Where `out` is coarser, the kernel is as much
    wider. Rows outside the interval do not count: they are what a crop has cut away.
    """
    scale = (high - low) / len(out)
    stretch = max(scale, 1.0)
    begin = max(int(np.floor(low + 1e-6)), 0)
    end = min(int(np.ceil(high - 1e-6)), len(rows))
    sums = np.empty(out.shape[1], np.float32)
    for i in range(len(out)):
        centre = low + (i + 0.5) * scale
        start = max(int(centre - 2.0 * stretch + 0.5), begin)
        stop = min(int(centre + 2.0 * stretch + 0.5), end)
        total = 0.0
        for j in range(start, stop):
            total += cubic(abs(j + 0.5 - centre) / stretch)
        sums[:] = 0.5
        for j in range(start, stop):
            weight = np.float32(cubic(abs(j + 0.5 - centre) / stretch) / total)
            row = rows[j]
            for x in range(len(sums)):
                sums[x] += weight * np.float32(row[x])
        target = out[i]
        for x in range(len(sums)):
            target[x] = np.uint8(min(max(sums[x], np.float32(0)), np.float32(255)))
