"""An image file as the array that models take: the one reader of such files."""

import io

import numpy as np

from keras_fmm import checks, hints

# What Pillow makes grey or coloured as it should; those with alpha go onto white first.
_BYTES = ("1", "L", "P", "RGB", "RGBX", "YCbCr", "HSV")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# Where Pillow gives 16 bits as the file means them.
_FORMATS_OF_SIXTEEN_BITS = ("PNG", "TIFF", "JPEG2000")
# Numbers of tags of TIFF.
_BITS, _MEANING = 258, 262
_UNKNOWN = "whose numbers have no range that is known"


def load_image(
    path: hints.Path, image_size: tuple[int, int] | None = None, channels: int = 3
) -> np.ndarray:
    """Returns an image file (PNG, JPEG, WebP, GIF, BMP, TIFF, ...) as an array of 0 to 255.

    - It is upright: a photograph that lies on its side is turned as its EXIF data says.
    - 16 bits of grey are divided by 257, and so keep what is finer than a byte; of 16 bits of
      colour the upper byte is taken.
    - What is transparent shows white behind it.
    - CMYK becomes RGB by the colour profile that the file holds, and without one by the plain rule.
      A profile of an RGB image is not looked at.

    TensorFlow, which reads for `keras.utils.image_dataset_from_directory` and `load`, does neither
    turn images nor look at transparency. Train on what this function gives, or on upright and
    opaque images, to have the same pixels where a model is used.

    Args:
        path: str or `os.PathLike`, the file.
        image_size: pair of int, default None (the image's own). Height and width to resize to,
            at most 16,384, bilinearly with antialiasing, as `ImageDataset.arrays` does.
        channels: 1 or 3, default 3. Grey or RGB.

    Returns:
        float32 array `(height, width, channels)`.

    Raises:
        FileNotFoundError: there is no file at `path`.
        OSError: the file cannot be opened.
        ImportError: Pillow is not installed; it is in the extras `data` and `mobile`.
        TypeError: `path` or a size is of no type that fits.
        ValueError: `path` is empty; the file is no image, it is damaged, it holds several, or its
            numbers have no known range: floats, 32-bit integers, LAB; `channels` or `image_size` is
            none of the above.

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
    checks.package("PIL.Image", "Reading image files", "data")
    checks.one_of("channels", channels, (1, 3))
    if image_size is not None:
        image_size = checks.pair("image_size", image_size, checks.IMAGE_SIDES)
    path = checks.path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no image at {str(path)!r}.")
    # Of a path Pillow maps some TIFFs into memory; what lies on its side it scrambles then.
    with open(path, "rb") as file:
        try:
            array = _read(file, channels)
        # Pillow raises whatever the bytes of a damaged file lead its readers to.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                "`path` must be a whole file of one image whose range is known. "
                f"Received: path={str(path)!r}, which cannot be read ({checks.printable(reason)}). "
                "Save the image that is meant as a PNG of 8 bits, grey or RGB."
            ) from error
    return array if image_size is None else _resized(array, *image_size)


def _read(opened, channels):
    from PIL import Image, ImageOps

    with Image.open(opened) as file:
        count = getattr(file, "n_frames", 1)
        # Cameras put a preview into the same file, as MPO.
        if count > 1 and file.format != "MPO":
            raise ValueError(f"it holds {count} images")
        if file.mode in _SIXTEEN_BITS:
            array = _of_sixteen_bits(file)
            return np.repeat(array[..., None], channels, axis=-1)
        image = ImageOps.exif_transpose(file)
        if image.mode == "CMYK":
            image = _of_cmyk(image)
        elif image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("RGB")
        if image.mode not in _BYTES:
            raise ValueError(f"its mode is {image.mode}, {_UNKNOWN}")
        image = image.convert("L" if channels == 1 else "RGB")
        return np.asarray(image, "float32").reshape(*image.size[::-1], channels)


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


def _resized(array, height, width):
    from PIL import Image

    planes = [
        # As floats: bytes would be rounded.
        Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR)
        for plane in np.moveaxis(array, -1, 0)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)
