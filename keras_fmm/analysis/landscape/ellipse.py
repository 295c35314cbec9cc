"""A closed trajectory through three samples."""

import numpy as np

from keras_fmm import checks, hints


def ellipse(
    a: hints.ArrayLike, b: hints.ArrayLike, c: hints.ArrayLike, points: int = 300
) -> np.ndarray:
    """Returns the ellipse through three samples whose centre is their mean.

    `x(t) = m + cos(t) (a - m) + sin(t) (b - c) / sqrt(3)`, `m = (a + b + c) / 3`, at `points` equal
    steps of t from 0; it is the only ellipse through the three with that centre, and the smallest
    through them. Points 0, points / 3 and 2 * points / 3 are a, b and c, up to rounding.

    Samples on a line give a way to and fro along it, three equal ones a single point. Elsewhere
    than at the samples the values may leave the range of images.

    Args:
        a: array of finite numbers, such as an image. The first sample.
        b: array of the same shape. The second sample.
        c: array of the same shape. The third sample.
        points: int, a positive multiple of 3 of at most 10,000, default 300. How many points the
            ellipse has.

    Returns:
        float32 array, `(points, *shape)`. Several trajectories in one array, as `curve` takes them,
        are `np.stack([ellipse(a, b, c), ellipse(d, e, f)])`.

    Raises:
        TypeError: a sample holds no numbers, or `points` is no integer.
        ValueError: the shapes differ, a sample is empty or not finite, or `points` is no positive
            multiple of 3 of at most 10,000.

    Example:

    >>> ellipse(2, 3, 7, points=6).round(3)
    array([2., 1., 3., 6., 7., 5.], dtype=float32)

    Reference:
        Novak, Bahri, Abolafia, Pennington, Sohl-Dickstein, "Sensitivity and Generalization in
        Neural Networks: an Empirical Study".
    """
    rule = "a positive multiple of 3, so that the samples are among them, of at most 10,000"
    points = checks.integer("points", points, rule, minimum=3, below=checks.REPEATS)
    if points % 3:
        raise ValueError(f"`points` must be {rule}. Received: points={points}")
    a, b, c = (_checked(name, x) for name, x in (("a", a), ("b", b), ("c", c)))
    if not a.shape == b.shape == c.shape:
        raise ValueError(
            "`a`, `b` and `c` must be of one shape. "
            f"Received: shapes {a.shape}, {b.shape} and {c.shape}"
        )
    middle = (a + b + c) / 3
    angles = np.arange(points) * (2 * np.pi / points)
    cosines, sines = (f(angles).reshape(-1, *(1,) * a.ndim) for f in (np.cos, np.sin))
    return (middle + cosines * (a - middle) + sines * (b - c) / np.sqrt(3)).astype("float32")


def _checked(name, sample):
    sample = checks.real_array(name, sample).astype("float64")
    if not sample.size:
        raise ValueError(f"`{name}` must not be empty. Received: {name} of shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"`{name}` must be finite. Received: a NaN or an infinity in {name}")
    return sample
