"""How smooth curves are."""

import dataclasses

import numpy as np

from keras_fmm import checks, hints

# Steps that float32 may make by rounding alone, as a part of a neuron's greatest value.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Smoothness:
    """Four measures of how rough curves are: floats, or arrays with one for each trajectory.

    Attributes:
        total_variation: the length of the way up and down, `sum |v[i+1] - v[i]|`, on average over
            the neurons.
        second_difference: `|v[i+1] - 2 v[i] + v[i-1]|`, on average over the points and neurons. It
            falls with the square of the number of points: compare at equal numbers.
        argmax_changes: how often the neuron that is greatest gives way to another.
        monotone_pieces: into how many rising or falling pieces a curve falls, on average over the
            neurons; level parts belong to the piece before them, and a constant is one piece.

    Example:

    >>> smoothness([[0.0], [1.0], [0.0], [1.0]]).monotone_pieces
    4.0
    """

    total_variation: float | np.ndarray
    second_difference: float | np.ndarray
    argmax_changes: float | np.ndarray
    monotone_pieces: float | np.ndarray


def smoothness(values: hints.ArrayLike, closed: bool = True, relative: bool = False) -> Smoothness:
    """Returns measures of how smooth the neurons are along a trajectory, or along several.

    To average over trajectories, and to know the error of that: `Estimate.from_samples(
    smoothness(values).total_variation)`.

    Args:
        values: array of finite numbers, `(points, classes)` or `(trajectories, points, classes)`,
            as `curve` gives it; 3 points at least.
        closed: bool, default True. Whether the last point is followed by the first, as on an
            ellipse. A closed curve that is not constant falls into two monotone pieces at least.
        relative: bool, default False. Whether each neuron's values are divided by their range along
            the trajectory (greatest less least; a constant stays), so that a network with larger
            logits is not called rougher. It makes no difference to `argmax_changes` and
            `monotone_pieces`.

    Returns:
        `Smoothness`, of floats or of arrays `(trajectories,)`. Of equal neurons the first counts
        as the greatest. For `monotone_pieces`, a step of at most 1e-6 of the neuron's greatest
        absolute value counts as level: float32 makes such steps by rounding.

    Raises:
        TypeError: `values` holds no numbers, or `closed` or `relative` is no bool.
        ValueError: it has not 2 or 3 axes, less than 3 points, no class, or a value that is not
            finite.

    Example:

    >>> import numpy as np
    >>> angles = np.arange(300) * 2 * np.pi / 300
    >>> found = smoothness(np.stack([np.cos(angles), np.sin(angles)], axis=-1))
    >>> round(found.total_variation, 3), found.argmax_changes, found.monotone_pieces
    (4.0, 2.0, 2.0)
    """
    closed = checks.flag("closed", closed)
    relative = checks.flag("relative", relative)
    values = _checked(values)
    # Which is greatest is known before the neurons are divided, each by a range of its own.
    greatest = values.argmax(axis=-1)[..., None]
    if relative:
        spread = np.ptp(values, axis=-2, keepdims=True)
        values = values / np.where(spread > 0, spread, 1)
    after = _successors(values, closed)
    steps = after - values[..., : after.shape[-2], :]
    bends = _successors(steps, closed)
    bends = bends - steps[..., : bends.shape[-2], :]
    next_greatest = _successors(greatest, closed)
    changes = next_greatest != greatest[..., : next_greatest.shape[-2], :]

    level = _ROUNDING * np.abs(values).max(axis=-2, keepdims=True)
    signs = np.where(np.abs(steps) > level, np.sign(steps), 0)
    pieces = np.apply_along_axis(_pieces, -2, signs, closed)
    measures = (
        np.abs(steps).sum(axis=-2).mean(axis=-1),
        np.abs(bends).mean(axis=(-2, -1)),
        changes.sum(axis=(-2, -1)).astype("float64"),
        pieces.mean(axis=-1),
    )
    return Smoothness(*(x if x.ndim else float(x) for x in measures))


def _checked(values):
    values = checks.real_array("values", values)
    if values.ndim not in (2, 3) or values.shape[-2] < 3 or 0 in values.shape:
        raise ValueError(
            "`values` must be (points, classes) or (trajectories, points, classes), with 3 points "
            f"at least. Received: values of shape {values.shape}"
        )
    values = values.astype("float64")
    if not np.isfinite(values).all():
        raise ValueError("`values` must be finite. Received: a NaN or an infinity in values")
    return values


def _successors(values, closed):
    """Returns the next point's values, for each point that has one."""
    return np.roll(values, -1, axis=-2) if closed else values[..., 1:, :]


def _pieces(signs, closed):
    """Returns the number of monotone pieces of one curve from the signs of its steps."""
    signs = signs[signs != 0]
    turns = np.count_nonzero(signs[1:] != signs[:-1])
    if not len(signs) or not closed:
        return turns + 1
    # Closed, the last piece may go on into the first.
    return max(1, turns + (signs[-1] != signs[0]))
