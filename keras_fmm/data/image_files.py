"""An image file as the array that models take: the one reader of such files."""

import io
import os
import re

import numpy as np

from keras_fmm import checks, hints
from keras_fmm.data import arguments

# What Pillow makes grey or coloured as it should; those with alpha go onto white first.
_BYTES = ("1", "L", "P", "RGB", "RGBX", "YCbCr", "HSV")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# Where Pillow gives 16 bits as the file means them.
_FORMATS_OF_SIXTEEN_BITS = ("PNG", "TIFF", "JPEG2000")
# Numbers of tags of TIFF, and of EXIF; those of its values that turn by a right angle.
_BITS, _MEANING, _ORIENTATION = 258, 262, 274
_ON_ITS_SIDE = (5, 6, 7, 8)
# How many times as large as the size asked for a JPEG is decoded at least. Twice is what Pillow
# takes for its own thumbnails.
_LEAST = 2
_UNKNOWN = "whose numbers have no range that is known"


def load_image(
    path: hints.Path,
    image_size: tuple[int, int] | None = None,
    channels: int = 3,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
) -> np.ndarray:
    """Returns an image file (PNG, JPEG, WebP, GIF, BMP, TIFF, ...) as an array of 0 to 255.

    - It is upright: a photograph that lies on its side is turned as its EXIF data says.
    - 16 bits of grey are divided by 257, and so keep what is finer than a byte; of 16 bits of
      colour the upper byte is taken.
    - What is transparent shows white behind it.
    - CMYK becomes RGB by the colour profile that the file holds, and without one by the plain rule.
      A profile of an RGB image is not looked at.

    `load_folder` reads by it too, so that a model sees in use what it saw in training. TensorFlow,
    which reads for `keras.utils.image_dataset_from_directory` and for `load` of a name, does
    neither turn images nor look at transparency.

    Images are resized bilinearly with antialiasing, as `ImageDataset.arrays` does, and rounded to a
    256th. By default they are stretched to the size. Of a JPEG at least four times as large the
    decoder gives a half, a quarter or an eighth, never less than twice the size, which is then
    resized.

    Args:
        path: str or `os.PathLike`, the file.
        image_size: pair of int, default None (the image's own). Height and width to resize to,
            at most 16,384.
        channels: 1 or 3, default 3. Grey or RGB.
        crop_to_aspect_ratio: bool, default False. Whether what is too wide or too high for
            `image_size` is cut off, evenly on both sides.
        pad_to_aspect_ratio: bool, default False. Whether the whole image is put into the middle
            of `image_size`, with black beside it.

    Returns:
        float32 array `(height, width, channels)`.

    Raises:
        FileNotFoundError: there is no file at `path`.
        OSError: the file cannot be opened.
        ImportError: Pillow is not installed; it is in the extras `data` and `mobile`.
        TypeError: `path`, a size or a bool is of no type that fits.
        ValueError: `path` is empty; the file is no image, it is damaged, it holds several, or its
            numbers have no known range: floats, 32-bit integers, LAB; `channels` or `image_size` is
            none of the above; it is to be both cropped and padded.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> from keras_fmm import data
    >>> path = tempfile.mkdtemp() + "/noise.png"
    >>> noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype("uint8")
    >>> keras.utils.save_img(path, noise, scale=False)
    >>> bool((data.load_image(path) == noise).all())
    True
    >>> data.load_image(path, image_size=(8, 8), channels=1).shape
    (8, 8, 1)
    """
    fit = arguments.fit(crop_to_aspect_ratio, pad_to_aspect_ratio)
    checks.package("PIL.Image", "Reading image files", "data")
    checks.one_of("channels", channels, (1, 3))
    if image_size is not None:
        image_size = checks.pair("image_size", image_size, checks.IMAGE_SIDES)
    return read(checks.path("path", path), channels, image_size, fit)


def read(path, channels, image_size, fit):
    """Returns the image file at `path`; see `load_image` and `decoded`."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no image at {str(path)!r}.")
    # Of a path Pillow maps some TIFFs into memory; what lies on its side it scrambles then.
    with open(path, "rb") as file:
        try:
            return decoded(file, channels, image_size, fit)[0]
        # Pillow raises whatever the bytes of a damaged file lead its readers to.
        except Exception as error:
            raise ValueError(
                "`path` must be a whole file of one image whose range is known. "
                f"Received: path={str(path)!r}, which cannot be read ({reason(error)}). "
                "Save the image that is meant as a PNG of 8 bits, grey or RGB."
            ) from error


def reason(error):
    """Returns what an error of `decoded` says, on one line, without the name of the stream."""
    text = " ".join(re.sub(r" <_io\.[^>]*>$", "", str(error)).split())
    return checks.printable(text) or type(error).__name__


def decoded(file, channels, image_size=None, fit=None):
    """Returns an image as an array of 0 to 255, and how large it is in the file.

    Args:
        file: binary file, open for reading.
        channels: 1 or 3.
        image_size: None, or (height, width), to which it is resized.
        fit: None, "crop" or "pad": what becomes of another ratio of height to width.

    Returns:
        float32 array `(height, width, channels)`, and (height, width) of the whole image, upright.

    Raises:
        Exception: whatever the bytes of a damaged file lead Pillow to.
    """
    from PIL import Image

    with Image.open(file) as image:
        count = getattr(image, "n_frames", 1)
        # Cameras put a preview into the same file, as MPO.
        if count > 1 and image.format != "MPO":
            raise ValueError(f"it holds {count} images")
        lies = image.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
        whole = image.size if lies else image.size[::-1]
        if image_size is not None:
            height, width = (_LEAST * side for side in image_size)
            image.draft(None, (height, width) if lies else (width, height))
        planes = _planes(image, channels)
    if image_size is not None:
        planes = [_resized(plane, image_size, fit, whole) for plane in planes]
    arrays = [np.asarray(plane, "float32") for plane in planes]
    array = np.stack(arrays * (channels // len(arrays)), axis=-1)
    # So that `packed` holds all of it.
    return (array if image_size is None else unpacked(packed(array))), whole


def packed(array):
    """Returns numbers of 0 to 255, rounded to a 256th, as a uint16 array of half the bytes."""
    return np.rint(array * 256).astype("uint16")


def unpacked(array):
    """Returns what `packed` was given, a float32 array."""
    return array.astype("float32") / 256


def _planes(file, channels):
    """Returns an open image, upright, as one or three images of one channel each."""
    from PIL import Image, ImageOps

    if file.mode in _SIXTEEN_BITS:
        return [Image.fromarray(_of_sixteen_bits(file))]
    image = ImageOps.exif_transpose(file)
    if image.mode == "CMYK":
        image = _of_cmyk(image)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    if image.mode not in _BYTES:
        raise ValueError(f"its mode is {image.mode}, {_UNKNOWN}")
    return image.convert("L" if channels == 1 else "RGB").split()


def _of_sixteen_bits(file):
    """Returns grey of 16 bits as a float32 array `(height, width)` of 0 to 255."""
    from PIL import ImageOps

    tags = getattr(file, "tag_v2", {})
    # Pillow leaves white as zero, and 12 bits as they are.
    is_inverted = tags.get(_MEANING) == 0
    most = 4095 if tags.get(_BITS) == (12,) else 65535
    if file.format not in _FORMATS_OF_SIXTEEN_BITS or "transparency" in file.info or is_inverted:
        raise ValueError(f"its mode is {file.mode} in {file.format}, {_UNKNOWN}")
    values = np.asarray(ImageOps.exif_transpose(file)).astype("float32")
    return values * np.float32(255 / most)


def _of_cmyk(image):
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    try:
        return ImageCms.profileToProfile(
            image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except ImageCms.PyCMSError as error:
        raise ValueError(f"its colour profile is none of CMYK: {error}") from error


def _resized(plane, image_size, fit, whole):
    """Returns an image of one channel in a size; `whole` is its height and width in the file."""
    from PIL import Image

    height, width = image_size
    inner = (width, height)
    if fit == "crop":
        # As `keras.utils.image_dataset_from_directory` crops.
        left, top = plane.size
        wide = max(1, min(left, top * width // height))
        high = max(1, min(top, left * height // width))
        left, top = (left - wide) // 2, (top - high) // 2
        plane = plane.crop((left, top, left + wide, top + high))
    elif fit == "pad":
        # As `tf.image.resize_with_pad` pads.
        ratio = max(whole[0] / height, whole[1] / width)
        inner = tuple(max(1, int(side / ratio)) for side in whole[::-1])
    # As floats: bytes would be rounded.
    found = plane.convert("F").resize(inner, Image.Resampling.BILINEAR)
    if inner == (width, height):
        return found
    padded = Image.new("F", (width, height))
    padded.paste(found, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded
