"""The dataset that a recipe's settings name, and how a folder of images is read."""

from keras_fmm import data
from recipes.lab.settings import setting, shown

# How the name of a file of `data.save_arrays` ends, which needs no TensorFlow.
ARRAYS = ".npz"


def named(default):
    """Returns the field `dataset`."""
    text = (
        "`digits`, a name of tensorflow-datasets, a folder or CSV of images: ./NAME, "
        "or a file of `data.save_arrays`, with its splits: NAME.npz"
    )
    return setting(default, text)


ASPECT_RATIOS = ("stretch", "crop", "pad")


def aspect_ratio():
    """Returns the field `aspect_ratio`; `fitting` gives its value."""
    text = "how images of a folder get another ratio of sides"
    return setting("stretch", text, choices=ASPECT_RATIOS)


def known_aspect_ratio():
    """Returns the field `aspect_ratio` of what uses a trained model, which may know it."""
    text = "how images get another ratio of sides; none: as the model's training, if it is known"
    return setting(None, text, choices=(None, *ASPECT_RATIOS))


def color_mode():
    """Returns the field `color_mode`."""
    return setting("rgb", "of a folder's images", choices=("rgb", "grayscale"))


def skip_unreadable():
    """Returns the field `skip_unreadable`."""
    return setting(False, "leave out files of a folder that cannot be read, and name them")


# What only a folder is read by; its dataset's `identity` holds it.
OF_FOLDERS = ("aspect_ratio", "color_mode", "skip_unreadable")


def fitting(settings):
    """Returns `settings.aspect_ratio` as arguments of `data.load_image`, a dict."""
    return fitting_of(settings.aspect_ratio)


def fitting_of(kind):
    """Returns one of `ASPECT_RATIOS` as arguments of `data.load_image`, a dict."""
    return {} if kind == "stretch" else {f"{kind}_to_aspect_ratio": True}


def load(settings, image_size=None, channels=None, **arguments):
    """Returns the dataset that settings name.

    Args:
        settings: a recipe's, with `dataset` and `data_dir`, and those of `OF_FOLDERS` that it has.
        image_size: (height, width) or None, to which a folder's images are resized.
        channels: int, of a folder's images; None where `settings.color_mode` says it.
        **arguments: of `data.load`.

    Raises:
        ValueError: they ask of a name what only a folder can give, or a folder's images differ in
            size and there is no `image_size`, or are so few that a split has none.
    """
    is_arrays = settings.dataset.endswith(ARRAYS)
    if is_arrays or not data.is_path(settings.dataset):
        for name in OF_FOLDERS:
            default = type(settings).__dataclass_fields__.get(name)
            if default and getattr(settings, name) != default.default:
                raise ValueError(
                    f"`{name}` is of folders and CSVs of images. Received: "
                    f"{name}={getattr(settings, name)}, dataset={settings.dataset!r}. "
                    "Leave it out, or give a path such as ./NAME."
                )
        if is_arrays:
            if settings.data_dir is not None or arguments.get("validation_fraction", 0.1) != 0.1:
                raise ValueError(
                    "A file of `data.save_arrays` has its splits, and is in no folder of datasets. "
                    f"Received: dataset={settings.dataset!r} with another validation_fraction or a "
                    "data_dir. Leave them out."
                )
            return data.load_arrays(settings.dataset)
        return data.load(settings.dataset, data_dir=settings.data_dir, **arguments)
    color_mode = "grayscale" if channels == 1 else getattr(settings, "color_mode", "rgb")
    dataset = data.load(
        settings.dataset,
        data_dir=settings.data_dir,
        image_size=image_size,
        color_mode=color_mode,
        skip_unreadable=getattr(settings, "skip_unreadable", False),
        verbose=shown(settings),
        **(fitting(settings) if hasattr(settings, "aspect_ratio") else {}),
        **arguments,
    )
    if None in dataset.input_shape:
        raise ValueError(
            "`image_size` must be given for images of different sizes. Received: "
            f"image_size=None, dataset={settings.dataset!r}. Give e.g. --image-size 160."
        )
    refuse_empty_splits(dataset, "Add images, three a class at least.")
    if dataset.left_out:
        print(f"left out: {', '.join(dataset.left_out)}", flush=True)
    return dataset


def refuse_empty_splits(dataset, cure):
    """Raises ValueError where a split of a dataset has no image."""
    empty = [split for split, size in dataset.sizes.items() if not size]
    if empty:
        raise ValueError(
            "There must be images to train on, to validate and to test. Received: "
            f"dataset={dataset.name!r}, without any for {', '.join(empty)}. {cure}"
        )
