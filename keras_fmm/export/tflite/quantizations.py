"""How the numbers of a TFLite file can be stored."""

from keras_fmm import checks

QUANTIZATIONS = (None, "float16", "dynamic", "int8", "int16x8")
# These need the range of every value between the layers, which is measured on images. Each with
# what its file can take and give.
CALIBRATED = {"int8": ("float32", "int8", "uint8"), "int16x8": ("float32", "int16")}
# With images their weights' rounding is made up for.
CORRECTED = ("dynamic", *CALIBRATED)


def checked(quantization, io_dtype):
    """Returns the two if they go together.

    Raises:
        ValueError: one is unknown, or the second is not to be had with the first.
    """
    checks.one_of("quantization", quantization, QUANTIZATIONS)
    allowed = CALIBRATED.get(quantization, ("float32",))
    if io_dtype not in allowed:
        raise ValueError(
            f"`io_dtype` must be one of {', '.join(map(repr, allowed))} with "
            f"quantization={quantization!r}. Received: io_dtype={io_dtype!r}"
        )
    return quantization, io_dtype


def checked_agreement(min_agreement, quantization, data):
    """Returns `min_agreement` if it is one, and can be measured.

    Raises:
        TypeError: it is no number.
        ValueError: it is not in 0..1, or there are no images to measure it on.
    """
    if min_agreement is None:
        return None
    min_agreement = checks.share("min_agreement", min_agreement)
    if quantization not in CORRECTED or data is None:
        raise ValueError(
            "`min_agreement` is measured on `representative_data`, with a quantization among "
            f"{', '.join(map(repr, CORRECTED))}. Received: min_agreement={min_agreement}, "
            f"quantization={quantization!r}, "
            f"representative_data={'None' if data is None else 'given'}"
        )
    return min_agreement
