"""Whether attention ranks channels as their importance does."""

import dataclasses

import numpy as np

from keras_fmm import checks, hints


@dataclasses.dataclass(frozen=True, eq=False)
class RankAgreement:
    """How far two vectors of channels agree, for each sample.

    Attributes:
        kendall: float64 array `(n,)`, from -1 to 1; NaN where a vector is constant.
        cosine: float64 array `(n,)`, from -1 to 1; NaN where a vector is zero.
    """

    kendall: np.ndarray
    cosine: np.ndarray


def rank_agreement(attention: hints.ArrayLike, importance: hints.ArrayLike) -> RankAgreement:
    """Returns Kendall's tau and the cosine of attention and importance, for each sample.

    `tau = (P - Q) / sqrt((P + Q + T) * (P + Q + U))`, tau-b, over the pairs of channels: P are
    ordered alike in both vectors, Q against each other, T tie in the attention only, U in the
    importance only. Where a vector is constant all its pairs tie, and tau is NaN. Tau looks at the
    order only; the cosine, `a . b / (|a| |b|)`, is near 1 for any two vectors whose entries are
    positive and differ little, so a high one alone does not say that they agree.

    Args:
        attention: array of numbers, `(n, channels)`, or `(n, 1, 1, channels)` as a gate's
            `attention_map` gives them; n >= 1, at least two channels.
        importance: the same, as in `ChannelImportance`.

    Returns:
        A `RankAgreement`.

    Raises:
        TypeError: an array holds no numbers.
        ValueError: the shapes do not fit or differ, there are fewer than two channels, or a number
            is not finite.

    Example:

    >>> found = rank_agreement([[0.1, 0.2, 0.9]], [[1.0, 3.0, 2.0]])
    >>> found.kendall.round(3).tolist(), found.cosine.round(3).tolist()
    ([0.333], [0.72])

    Reference:
        Ye, He, Wang, Li, "Towards Understanding the Effectiveness of Attention Mechanism",
        section III; Kendall, "The treatment of ties in ranking problems".
    """
    # Slow to import, and nothing else here needs it.
    from scipy.stats import kendalltau

    attention = _vectors("attention", attention)
    importance = _vectors("importance", importance)
    if attention.shape != importance.shape:
        raise ValueError(
            "`attention` and `importance` must be of the same samples and channels. "
            f"Received: shapes {attention.shape} and {importance.shape}, (samples, channels)."
        )
    kendall = [
        kendalltau(one, other).statistic for one, other in zip(attention, importance, strict=True)
    ]
    lengths = np.linalg.norm(attention, axis=1) * np.linalg.norm(importance, axis=1)
    products = np.sum(attention * importance, axis=1)
    cosine = np.divide(products, lengths, out=np.full(len(lengths), np.nan), where=lengths > 0)
    return RankAgreement(np.array(kendall), cosine)


def _vectors(name, values):
    values = checks.real_array(name, values)
    shape = values.shape
    if len(shape) == 4 and shape[1:3] == (1, 1):
        values = values[:, 0, 0]
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise ValueError(
            f"`{name}` must be of shape (samples, channels) or (samples, 1, 1, channels), with at "
            f"least one sample and two channels. Received: {name} of shape {shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"`{name}` must be finite. Received: {name} with "
            f"{np.count_nonzero(~np.isfinite(values))} entries of NaN or infinity."
        )
    return values.astype("float64")
