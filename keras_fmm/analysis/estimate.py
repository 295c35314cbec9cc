"""A mean over images, with its standard error."""

import dataclasses
import math

import numpy as np

from keras_fmm import checks


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a measurement found on a sample of images, and how far chance may have moved it.

    Attributes:
        mean: float, over the images.
        standard_error: float, of `mean`, were other images drawn from where these came from; NaN
            for a single image, which tells nothing of the others.
        n: int, the images.

    Example:

    >>> Estimate.from_samples([1.0, 3.0])
    Estimate(mean=2.0, standard_error=1.0, n=2)
    """

    mean: float
    standard_error: float
    n: int

    @classmethod
    def from_samples(cls, samples):
        """Returns the estimate from one number for each image, which are taken as independent.

        `standard_error = standard deviation / sqrt(n)`, with n - 1 under the standard deviation.

        Args:
            samples: array of numbers, `(n,)`, n >= 1; summed in float64. A NaN makes all NaN.

        Raises:
            TypeError: `samples` holds no real numbers.
            ValueError: `samples` is empty or has not one axis.
        """
        samples = checks.real_array("samples", samples).astype("float64")
        if samples.ndim != 1 or not len(samples):
            raise ValueError(
                "`samples` must be one number for each image, at least one. "
                f"Received: samples of shape {samples.shape}"
            )
        count = len(samples)
        deviation = float(np.std(samples, ddof=1)) if count > 1 else math.nan
        return cls(float(np.mean(samples)), deviation / math.sqrt(count), count)

    @property
    def total(self):
        """The sum over the images, `mean * n`, as a float."""
        return self.mean * self.n
