"""Image files of every kind are read as they look, or refused by name."""

import struct

import keras
import numpy as np
import pytest
from PIL import Image, ImageCms

from keras_fmm import data

GREY = (np.arange(48).reshape(6, 8) * 5).astype("uint8")
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
# The left half is transparent.
ALPHA = np.where(np.arange(8) < 4, 0, 255) * np.ones((6, 1))
CLEAR = np.where(ALPHA[..., None] == 0, 255, RGB)
PICTURE = Image.fromarray(RGB)
PALETTE = PICTURE.quantize(16)


def with_alpha(image, alpha=ALPHA):
    image.putalpha(Image.fromarray(alpha.astype("uint8")))
    return image


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_of_16_bits():
    """RGB of 16 bits, which Pillow does not write."""
    tf = pytest.importorskip("tensorflow")
    return tf.io.encode_png(RGB.astype("uint16") * 256 + 77).numpy()


def saved(image, **options):
    return lambda path: image.save(path, **options)


READ = {
    "grey.png": (saved(Image.fromarray(GREY)), GREY[..., None]),
    "rgb.png": (saved(PICTURE), RGB),
    "rgb.bmp": (saved(PICTURE), RGB),
    "rgb.webp": (saved(PICTURE, lossless=True), RGB),
    "rgb.tif": (saved(PICTURE), RGB),
    "bits.png": (saved(Image.fromarray(np.greater(GREY, 99))), (GREY > 99)[..., None] * 255),
    "palette.png": (saved(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "palette.gif": (saved(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    # 16 bits, of which some are below a byte.
    "grey16.png": (
        saved(Image.fromarray(GREY.astype("uint16") * 200)),
        GREY[..., None] * (200 / 257),
    ),
    "grey16.tif": (
        saved(Image.fromarray(GREY.astype("uint16") * 200)),
        GREY[..., None] * (200 / 257),
    ),
    "rgb16.png": (lambda path: path.write_bytes(png_of_16_bits()), RGB),
    "rgba.png": (saved(with_alpha(PICTURE.copy())), CLEAR),
    "rgba.webp": (saved(with_alpha(PICTURE.copy()), lossless=True), CLEAR),
    "grey_alpha.png": (
        saved(with_alpha(Image.fromarray(GREY))),
        np.where(ALPHA == 0, 255, GREY)[..., None],
    ),
    "half.png": (
        saved(with_alpha(PICTURE.copy(), np.full((6, 8), 51))),
        np.round(255 + (RGB.astype(float) - 255) * 0.2),
    ),
    "opaque.png": (saved(with_alpha(PICTURE.copy(), np.full((6, 8), 255))), RGB),
    "colour_key.png": (
        saved(PICTURE, transparency=tuple(map(int, RGB[2, 3]))),
        np.where((RGB[2, 3] == RGB).all(-1, keepdims=True), 255, RGB),
    ),
    "palette_key.png": (
        saved(PALETTE, transparency=3),
        np.where(np.asarray(PALETTE)[..., None] == 3, 255, np.asarray(PALETTE.convert("RGB"))),
    ),
    # Six: it is to be turned clockwise. In a TIFF it is the same tag.
    "turned.png": (saved(PICTURE, exif=turned(6)), np.rot90(RGB, -1)),
    "turned.tif": (saved(PICTURE, exif=turned(6)), np.rot90(RGB, -1)),
    "mirrored.webp": (saved(PICTURE, lossless=True, exif=turned(2)), RGB[:, ::-1]),
    "turned16.png": (
        saved(Image.fromarray(GREY.astype("uint16") * 257), exif=turned(6)),
        np.rot90(GREY, -1)[..., None],
    ),
    "ink.tif": (
        saved(Image.new("CMYK", (8, 6), (255, 0, 0, 0))),
        np.full((6, 8, 3), (0, 255, 255)),
    ),
    "no_ink.jpg": (saved(Image.new("CMYK", (8, 6))), np.full((6, 8, 3), 255)),
}


@pytest.mark.parametrize("name", READ)
def test_it_is_read_as_it_looks(tmp_path, name):
    write, expected = READ[name]
    write(tmp_path / name)
    found = data.load_image(tmp_path / name)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, np.broadcast_to(expected, (*expected.shape[:2], 3)), atol=1)
    if "16" in name or expected.dtype == "uint8":
        np.testing.assert_allclose(found, found * 0 + expected, atol=1e-3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "P", "I;16", "CMYK", "RGB"])
def test_a_tiff_lies_as_its_tag_says(tmp_path, mode, orientation):
    # By the standard's words: where the stored first row and first column are to be seen.
    upright = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.T,
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).T,
        8: np.rot90,
    }
    image = Image.fromarray(GREY)
    if mode == "I;16":
        image = Image.fromarray(GREY.astype("uint16") * 257)
    elif mode == "CMYK":  # Black alone, of which the plain rule makes grey.
        image = Image.merge("CMYK", [Image.new("L", (8, 6))] * 3 + [Image.fromarray(255 - GREY)])
    elif mode != "L":
        image = image.convert(mode)
    image.save(tmp_path / "grey.tif", tiffinfo={274: orientation})
    found = data.load_image(tmp_path / "grey.tif", channels=1)
    np.testing.assert_allclose(found[..., 0], upright[orientation](GREY), atol=1e-3)


def test_tensorflow_reads_the_same_where_it_reads(tmp_path):
    tf = pytest.importorskip("tensorflow")
    for name in ("grey.png", "rgb.png", "bits.png", "palette.png", "rgb.bmp", "palette.gif"):
        READ[name][0](tmp_path / name)
        content = (tmp_path / name).read_bytes()
        expected = tf.io.decode_image(content, channels=3, expand_animations=False)
        np.testing.assert_array_equal(data.load_image(tmp_path / name), expected)
    large = np.random.default_rng(0).integers(0, 256, (37, 50, 3)).astype("uint8")
    Image.fromarray(large).save(tmp_path / "large.png")
    for size in ((10, 20), (80, 60)):
        expected = tf.image.resize(large, size, antialias=True)
        found = data.load_image(tmp_path / "large.png", image_size=size)
        np.testing.assert_allclose(found, expected, atol=0.01)


def test_grey_of_a_coloured_image(tmp_path):
    PICTURE.save(tmp_path / "rgb.png")
    found = data.load_image(tmp_path / "rgb.png", channels=1)
    expected = RGB.astype(float) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(found[..., 0], expected, atol=1)


def profile_of_cmyk(lightness):
    """An ICC profile whose inks are all grey of this lightness, 0 to 100, and together black."""
    ramp = bytes(range(256))
    white, grey, black = (bytes([value, 128, 128]) for value in (255, round(2.55 * lightness), 0))
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4
    table += white + grey * 14 + black + ramp * 3
    head = struct.pack(">I4sI4s4s4s", 0, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    head = head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    return struct.pack(">I", len(head) + len(table)) + head[4:] + table


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk_by_its_profile(tmp_path, ending):
    path = tmp_path / f"ink.{ending}"
    magenta = Image.new("CMYK", (8, 6), (0, 255, 0, 0))
    magenta.save(path, icc_profile=profile_of_cmyk(50))
    # A lightness of 50 is 119 in sRGB.
    np.testing.assert_allclose(data.load_image(path), 119, atol=3)


def frames(path):
    others = [Image.fromarray(RGB[::-1])]
    PICTURE.save(path, save_all=True, append_images=others)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
REFUSED = {
    "floats.tif": (saved(Image.fromarray(GREY / np.float32(255))), "its mode is F, whose numbers"),
    "whole.tif": (saved(Image.fromarray(GREY.astype("int32"))), "its mode is I, whose numbers"),
    "sixteen.ppm": (saved(Image.fromarray(GREY.astype("int32") * 257)), "its mode is I, whose"),
    "lab.tif": (saved(Image.merge("LAB", [Image.fromarray(GREY)] * 3)), "its mode is LAB"),
    "key16.png": (
        saved(Image.fromarray(GREY.astype("uint16")), transparency=3),
        "its mode is I;16 in PNG",
    ),
    "inverted16.tif": (
        saved(Image.fromarray(GREY.astype("uint16")), tiffinfo={262: 0}),
        "its mode is I;16 in TIFF",
    ),
    "moving.gif": (frames, "it holds 2 images"),
    "moving.png": (frames, "it holds 2 images"),
    "moving.webp": (frames, "it holds 2 images"),
    "pages.tif": (frames, "it holds 2 images"),
    "profile.jpg": (
        saved(Image.new("CMYK", (8, 6)), icc_profile=b"none"),
        "its colour profile is none of CMYK",
    ),
    "rgb_profile.tif": (
        saved(Image.new("CMYK", (8, 6)), icc_profile=SRGB),
        "its colour profile is none of CMYK",
    ),
    "floats.png": (
        saved(Image.fromarray(GREY / np.float32(255)), format="TIFF"),
        "must be a whole file of one image whose range is known. .*its mode is F",
    ),
    "text.png": (lambda path: path.write_text("a cat"), "cannot identify image file"),
    "empty.png": (lambda path: path.write_bytes(b""), "cannot identify image file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(tmp_path, name):
    write, reason = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=reason) as caught:
        data.load_image(tmp_path / name)
    assert name in str(caught.value)
    assert str(caught.value).endswith(
        "Save the image that is meant as a PNG of 8 bits, grey or RGB."
    )
    assert str(caught.value).isprintable()


def test_the_picture_of_a_camera_with_a_preview(tmp_path):
    PICTURE.save(tmp_path / "camera.mpo", save_all=True, append_images=[Image.new("RGB", (8, 6))])
    found = data.load_image(tmp_path / "camera.mpo")
    assert np.abs(found - RGB).mean() < 40 < found.mean()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", ["rgb.png", "grey16.png", "rgb.webp", "palette.gif", "rgb.tif"])
def test_damaged_files_are_read_or_refused(tmp_path, name):
    path = tmp_path / name
    READ[name][0](path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(60):
        content = bytearray(good[: rng.integers(1, len(good))] if number % 2 else good)
        for _ in range(3):
            content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(content)
        try:
            assert data.load_image(path).shape[-1] == 3
        except ValueError as error:
            refused += 1
            assert name in str(error)  # noqa: PT017
    assert refused > 20


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"channels": 4}, ValueError, "`channels` must be one of 1, 3"),
        ({"image_size": (0, 8)}, ValueError, r"`image_size\[0\]` must be a positive integer"),
        ({"image_size": (8, 8.5)}, TypeError, r"`image_size\[1\]` must be a positive integer"),
        ({"image_size": 8}, TypeError, "`image_size` must be a pair"),
        ({"image_size": (8, 16385)}, ValueError, r"`image_size\[1\]` must be below 16,385"),
        ({"image_size": (8, 8, 3)}, TypeError, "`image_size` must be a pair"),
    ],
)
def test_arguments_that_are_refused(tmp_path, arguments, error, message):
    PICTURE.save(tmp_path / "rgb.png")
    with pytest.raises(error, match=message):
        data.load_image(tmp_path / "rgb.png", **arguments)


@pytest.mark.parametrize("path", ["", None, 3, b"rgb.png"])
def test_what_is_no_path(path):
    error = ValueError if path == "" else TypeError
    with pytest.raises(error, match="`path` must be a str or `os.PathLike` that is not empty"):
        data.load_image(path)


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent.png"):
        with pytest.raises(FileNotFoundError, match="There is no image at"):
            data.load_image(path)


def test_keras_reads_the_same_of_upright_opaque_bytes(tmp_path):
    PICTURE.save(tmp_path / "rgb.png")
    expected = keras.utils.img_to_array(keras.utils.load_img(tmp_path / "rgb.png"))
    np.testing.assert_array_equal(data.load_image(tmp_path / "rgb.png"), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "MPO"])
def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(tmp_path, mode, monkeypatch):
    rows, columns = np.mgrid[:300, :400]
    waves = np.stack([np.sin(rows / 20), np.cos(columns / 30), np.sin((rows + columns) / 25)], -1)
    picture = Image.fromarray((waves * 100 + 128).astype("uint8"))
    if mode not in ("RGB", "MPO"):
        picture = picture.convert(mode)
    path = tmp_path / f"large.{'mpo' if mode == 'MPO' else 'jpg'}"
    decoded = []
    monkeypatch.setattr(
        Image.Image,
        "split",
        lambda image, real=Image.Image.split: decoded.append(image) or real(image),
    )
    for orientation in (1, 3, 6, 7):
        more = {"save_all": True, "append_images": [picture]} if mode == "MPO" else {}
        picture.save(path, exif=turned(orientation), quality=95, **more)
        whole = data.load_image(path)
        assert whole.shape[:2] == ((300, 400) if orientation < 5 else (400, 300))
        for size in ((20, 35), (35, 20)):
            decoded.clear()
            found = data.load_image(path, size)
            for plane in range(3):
                expected = Image.fromarray(whole[..., plane]).resize(size[::-1], 2)
                assert np.abs(found[..., plane] - expected).mean() < 1
            # Never below twice the size.
            width, height = decoded[0].size
            assert height < 300
            assert height >= 2 * size[0]
            assert width >= 2 * size[1]
