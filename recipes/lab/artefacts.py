"""What others have written: models, and the manifest of saved_models/.

The manifest says where each file comes from, what it scored and must be.
"""

import pathlib
import zipfile

import keras

from keras_fmm import checks, deprecated, files

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
        raise FileNotFoundError(f"`{name}` must be a .keras file. There is no file at {path}.")
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
