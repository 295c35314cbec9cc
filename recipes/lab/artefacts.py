"""What others have written: models, and the manifest of saved_models/.

The manifest says where each file comes from, what it scored and must be.
"""

import math
import pathlib
import zipfile

import keras

from keras_fmm import checks, deprecated, files
from recipes.lab.settings import setting

# It was in `keras_fmm.export`, which keeps it for a release; then it moves here. Not the other way
# round: a wheel of keras_fmm has no recipes to take it from.
add_to_manifest = deprecated.add_to_manifest
check_manifest = deprecated.check_manifest
manifest_entry = deprecated.manifest_entry


def load_model(name, path, **arguments):
    """Returns the model in a file, as `keras.saving.load_model` with these arguments.

    Args:
        name: str, the setting's name, quoted in errors.
        path: str or `os.PathLike`, a .keras file.

    Raises:
        FileNotFoundError: there is no file.
        OSError: it cannot be read as a model.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"`{name}` must be a .keras file that is there. Received: {path}, where there is no "
            "file. Correct the path, or save the model there first."
        )
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                files.check_unpacked(archive)
        return keras.saving.load_model(path, **arguments)
    # zipfile, h5py and Keras raise many kinds over a damaged file.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(
            f"`{name}` must be a whole .keras file. Received: {path}, which cannot be read as a "
            f"model ({checks.printable(reason)[:300]}). Save or copy it again."
        ) from error


def input_range():
    """Returns the field `input_range`, for `channel_ranges`."""
    return setting(None, "LOW,HIGH of the file's images, e.g. 0,255; none: the file says it")


def channel_ranges(path, metadata, channels, given=None):
    """Returns what the darkest and the lightest value of each channel are for a TFLite file.

    Args:
        path: str or `os.PathLike`, named in the error.
        metadata: dict, as of `export.read_metadata`.
        channels: int, of its images.
        given: str or None, default None. The setting `input_range`.

    Returns:
        List of `channels` pairs of float.

    Raises:
        ValueError: nothing tells, or `given` is no pair of numbers or contradicts the file.
    """
    known = _known_ranges(metadata, channels)
    if given is None:
        if known is None:
            raise ValueError(
                "It must be known what numbers a file takes for dark and light. Received: "
                f"{path}, which does not tell. Export it with `input_range=`, or give "
                "--input-range, e.g. 0,255 or -1,1."
            )
        return known
    try:
        low, high = map(float, given.split(","))
    except ValueError:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise ValueError(
            "`input_range` must be two numbers, the smaller first, with a comma between. "
            f"Received: input_range={given}"
        )
    found = [(low, high)] * channels
    if known not in (None, found):
        raise ValueError(
            f"`input_range` must be as the file says. Received: input_range={given} for {path}, "
            f"whose channels have {known}. Leave it out."
        )
    return found


def _known_ranges(metadata, channels):
    expected = metadata.get("preprocessing")
    if metadata.get("input_range") is not None:
        return [tuple(metadata["input_range"])] * channels
    if expected is None or len(expected["image_mean"]) != channels:
        return None
    if expected["is_inside"]:
        return [(0.0, 255.0)] * channels
    pairs = zip(expected["image_mean"], expected["image_std"], strict=True)
    return [(-mean / std, (1 - mean) / std) for mean, std in pairs]
