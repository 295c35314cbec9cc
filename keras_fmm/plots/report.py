"""A page of a classifier's results that needs no server and no network."""

import base64
import html
import io
import operator
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from keras_fmm import checks, files, hints, progress
from keras_fmm.analysis import grad_cam
from keras_fmm.plots.curves import training_curves

# More would not be read, and a page of a thousand classes must open.
_CELLS, _PAIRS, _SIDE = 30, 30, 224
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
       color: #1a1a1a; background: #fff; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #ccc; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img, svg { max-width: 100%; height: auto; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr));
            gap: 1rem; }
figure { margin: 0; border: 1px solid #ccc; padding: .5rem; }
figure img { width: 9rem; image-rendering: pixelated; vertical-align: top; }
figure img.smooth { image-rendering: auto; }
"""


def save_report(
    path: hints.Path,
    model: keras.Model,
    batches: Iterable,
    class_names: Sequence[str],
    title: str = "Results",
    history: Mapping[str, Sequence] | None = None,
    settings: Mapping | None = None,
    names: Sequence[str] | None = None,
    images: bool = True,
    worst: int = 24,
    verbose: hints.Verbose = "auto",
) -> pathlib.Path:
    """Writes a page of HTML about what a classifier says of labelled images, and returns its path.

    It has the accuracy, the curves of the training, a table of the classes, a picture of which
    class is taken for which, and the worst mistakes: images to whose class the model gave the least
    probability, and beside each what spoke for its answer (Grad-CAM). Beside each share are its
    count and its interval of 95 % (Wilson). All is in one file, which loads nothing; **with
    `images` the photographs of the worst mistakes are in it**, without what a camera wrote beside
    them. Of images no more are kept in memory than are shown.

    Args:
        path: str or `os.PathLike`. The file, ending in .html.
        model: `keras.Model`. Of images in, a probability for each class out.
        batches: iterable of (images, labels), such as a `tf.data.Dataset` or a
            `keras.utils.PyDataset`: images `(n, height, width, channels)` as the model takes them,
            of 0 to 255 or 0 to 1; int labels `(n,)`.
        class_names: list or tuple of str. Label i is the class of name i; two or more.
        title: str, default "Results". The page's heading.
        history: dict by metric of lists, a number an epoch, default None. For the curves.
        settings: dict, default None. What is listed under "Settings".
        names: list or tuple of str, default None. One for each image in the order of `batches`,
            such as files' names; None numbers them.
        images: bool, default True. Whether the images of the worst mistakes are shown.
        worst: int, at least 0, default 24. How many of the worst mistakes are listed.
        verbose: "auto", 0, 1 or 2, default "auto". When progress is shown, as of `grad_cam`.

    Returns:
        `pathlib.Path`, the file.

    Raises:
        ImportError: matplotlib is absent; it is in the extra `plots`.
        OSError: the file cannot be written; what was there is unchanged.
        TypeError: an argument is of no type that fits.
        ValueError: fewer than two classes, no image, a label of no class, names of another number,
            or a model that gives no probability for each class.

    Example:

    >>> import tempfile
    >>> from keras_fmm import models
    >>> model = models.ToyCNN(input_shape=(8, 8, 1), classes=2)
    >>> batches = [(np.zeros((4, 8, 8, 1)), np.array([0, 1, 1, 0]))]
    >>> path = save_report(tempfile.mkdtemp() + "/report.html", model, batches, ["cat", "dog"])
    >>> "<h1>Results</h1>" in path.read_text()
    True
    """
    images = checks.flag("images", images)
    path = checks.path("path", path)
    if path.suffix != ".html":
        raise ValueError(f"`path` must end in .html. Received: path={str(path)!r}")
    checks.instance("model", model, keras.Model)
    checks.package("matplotlib.figure", "Drawing", "plots")
    worst = checks.integer("worst", worst, "an integer, at least 0")
    class_names = checks.listed("class_names", class_names, str)
    if len(class_names) < 2:
        raise ValueError(f"`class_names` must be two or more. Received: class_names={class_names}")
    if names is not None:
        names = checks.listed("names", names, str)
    history = {} if history is None else checks.mapping("history", history)
    settings = {} if settings is None else checks.mapping("settings", settings)
    answers, mistakes = _answers(model, batches, len(class_names), worst, verbose)
    if names is not None and len(names) != len(answers["truth"]):
        raise ValueError(
            "`names` must have one for each image. "
            f"Received: {len(names)} names for {len(answers['truth'])} images."
        )
    counts = np.zeros((len(class_names),) * 2, "int64")
    np.add.at(counts, (answers["truth"], answers["said"]), 1)
    parts = [
        _summary(answers, counts, class_names),
        _curves(history),
        _table_of_classes(counts, class_names),
        _confusions(counts, class_names),
        _mistakes(model, mistakes, class_names, names, images, verbose),
        _table_of_settings(settings),
    ]
    with files.replacing(path) as temporary:
        temporary.write_text(_page(title, images and bool(mistakes), parts), encoding="utf-8")
    return path


def _answers(model, batches, classes, worst, verbose):
    """Returns what the model says of all images, a dict of arrays, and the worst mistakes."""
    is_indexed = isinstance(batches, keras.utils.PyDataset)
    # Of a generator it is 0.
    bar = progress.Progress(operator.length_hint(batches), verbose, "batch")
    rows, mistakes, first = [], [], 0
    for batch in (batches[i] for i in range(len(batches))) if is_indexed else batches:
        images, labels = (checks.as_numpy(value) for value in batch[:2])
        images, labels = np.asarray(images), np.asarray(labels)
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
            raise ValueError(
                "`batches` must give an integer label for each image. "
                f"Received: labels of {labels.dtype} {labels.shape} for {len(images)} images"
            )
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise ValueError(
                f"Labels must be of the {classes} classes, from 0. "
                f"Received: labels from {labels.min()} to {labels.max()}"
            )
        scores = checks.as_numpy(model.predict_on_batch(images))
        scores = np.asarray(scores, "float32")
        # Half precision rounds a little beyond.
        if scores.shape != (len(images), classes) or not ((scores >= 0) & (scores <= 1.001)).all():
            raise ValueError(
                f"`model` must give a probability for each of the {classes} classes. "
                f"Received: outputs {scores.shape} from {scores.min():.3g} to {scores.max():.3g}. "
                "Give it a softmax, or the names of its classes."
            )
        of_truth = scores[np.arange(len(labels)), labels]
        said = scores.argmax(axis=1)
        better = (scores > of_truth[:, None]).sum(axis=1)
        rows.append((labels, said, of_truth, scores.max(axis=1), better))
        for i in np.flatnonzero(said != labels):
            found = (float(of_truth[i]), first + int(i), images[i])
            mistakes.append((*found, int(labels[i]), int(said[i]), float(scores[i].max())))
        mistakes = sorted(mistakes, key=lambda mistake: mistake[:2])[:worst]
        # A view would keep the whole batch.
        mistakes = [
            (*m[:2], m[2].copy() if m[2].base is not None else m[2], *m[3:]) for m in mistakes
        ]
        first += len(labels)
        bar.add(1)
    if not first:
        raise ValueError("`batches` must give an image. Received: none")
    keys = ("truth", "said", "of_truth", "of_said", "better")
    columns = (np.concatenate(column) for column in zip(*rows, strict=True))
    return dict(zip(keys, columns, strict=True)), mistakes


def _text(value):
    """Returns text of others as HTML that shows it and does nothing else."""
    return html.escape(checks.printable(str(value)))


def _share(hits, n):
    """Returns a share with its count and interval."""
    if not n:
        return "none"
    from scipy import stats

    low, high = stats.binomtest(int(hits), int(n)).proportion_ci(0.95, "wilson")
    return f"{hits / n:.1%} ({low:.1%} to {high:.1%}; {hits} of {n})"


def _page(title, has_images, parts):
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    warning = (
        "<p><strong>This page contains photographs: those of the worst mistakes.</strong> Give it "
        "only to whom may see them, or write it without images.</p>"
        if has_images
        else ""
    )
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_text(title)}</h1>
{warning}
{body}
</body>
</html>
"""


def _summary(answers, counts, class_names):
    n = len(answers["truth"])
    rows = [("Right", _share(np.trace(counts), n))]
    if len(class_names) > 10:
        rows.append(("Among the first five", _share(int((answers["better"] < 5).sum()), n)))
    largest = counts.sum(axis=1)
    named = _text(class_names[largest.argmax()])
    rows.append((f"Always saying “{named}” would be right", _share(largest.max(), n)))
    cells = "".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return (
        f"<h2>Score</h2><table>{cells}</table><p>In brackets: the interval of 95 % (Wilson) that "
        "comes of the number of images alone, and the count. It says nothing of other "
        "photographs than such as these, nor of another training.</p>"
    )


def _curves(history):
    metrics = [m for m in ("loss", "accuracy") if m in history or f"val_{m}" in history]
    if not metrics:
        return ""
    file = io.BytesIO()
    training_curves({"this run": history}, metrics).savefig(file, format="png")
    epochs = max(len(values) for values in history.values())
    last = [f"{name} {values[-1]:.4g}" for name, values in history.items() if _is_number(values)]
    alt = f"Curves over {epochs} epochs. In the last: {', '.join(last)}."
    return f"<h2>Training</h2>{_img(file.getvalue(), 'png', alt)}"


def _is_number(values):
    return len(values) > 0 and isinstance(values[-1], (int, float))


def _img(content, kind, alt, attributes=""):
    data = base64.b64encode(content).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{_text(alt)}"{attributes}>'


def _table_of_classes(counts, class_names):
    of_class, of_answer, right = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    with np.errstate(invalid="ignore"):
        recall = right / of_class
    # The worst first, those without an image last.
    order = np.lexsort((-of_class, np.nan_to_num(recall, nan=2.0)))
    rows = []
    for i in order:
        others = counts[i].copy()
        others[i] = 0
        taken = f"{_text(class_names[others.argmax()])} ({others.max()})" if others.any() else ""
        rows.append(
            f"<tr><th scope='row'>{_text(class_names[i])}</th>"
            f"<td class='number'>{of_class[i]}</td>"
            f"<td class='number'>{_share(right[i], of_class[i])}</td>"
            f"<td class='number'>{_share(right[i], of_answer[i])}</td><td>{taken}</td></tr>"
        )
    return (
        "<h2>Classes</h2><table><caption>The hardest first. Found: of the images of a class, those "
        "that were called so (recall). Right: of the images that were called so, those of the "
        "class (precision).</caption><thead><tr><th scope='col'>Class</th>"
        "<th scope='col'>Images</th><th scope='col'>Found</th><th scope='col'>Right</th>"
        f"<th scope='col'>Most often taken for</th></tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table>"
    )


def _confusions(counts, class_names):
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return "<h2>Confusions</h2><p>There are none.</p>"
    shown = np.arange(len(counts))
    note = ""
    if len(counts) > _CELLS:
        # Those that are in most mistakes, on either side.
        shown = np.sort(
            np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:_CELLS]
        )
        note = f"<p>Of the {len(counts)} classes the {_CELLS} with the most mistakes.</p>"
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    rows = []
    for truth, said in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[truth, said]:
            rows.append(
                f"<tr><td>{_text(class_names[truth])}</td><td>{_text(class_names[said])}</td>"
                f"<td class='number'>{_share(wrong[truth, said], counts[truth].sum())}</td></tr>"
            )
    pairs = int((wrong > 0).sum())
    return (
        f"<h2>Confusions</h2>{note}{_matrix(counts, shown, class_names)}"
        f"<table><caption>The largest confusions, {len(rows)} of {pairs}.</caption><thead><tr>"
        "<th>Class</th><th>Taken for</th><th>Of the images of the class</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _matrix(counts, shown, class_names):
    # As wide as the longest name is.
    side, left = 24, 15 + 7 * max(len(_short(class_names[i])) for i in shown)
    size = left + side * len(shown)
    of_class = np.maximum(counts.sum(axis=1), 1)
    cells = []
    for row, truth in enumerate(shown):
        y = left + side * row
        label = _text(_short(class_names[truth]))
        cells.append(f'<text x="{left - 5}" y="{y + 16}" text-anchor="end">{label}</text>')
        cells.append(f'<text transform="translate({y + 16},{left - 5}) rotate(-90)">{label}</text>')
        for column, said in enumerate(shown):
            n = counts[truth, said]
            if not n:
                continue
            share = n / of_class[truth]
            colour = "#2166ac" if truth == said else "#b2182b"
            told = f"{class_names[truth]} taken for {class_names[said]}: {n} of {of_class[truth]}"
            x = left + side * column
            ink = "#fff" if share > 0.5 else "#000"
            cells.append(
                f'<g><title>{_text(told)}</title><rect x="{x}" y="{y}" width="{side}" '
                f'height="{side}" fill="{colour}" fill-opacity="{max(share, 0.05):.2f}"/>'
                f'<text x="{x + side / 2}" y="{y + 16}" text-anchor="middle" fill="{ink}" '
                f'font-size="9">{n}</text></g>'
            )
    alt = (
        f"Confusion matrix of {len(shown)} classes: rows are the images' classes, columns what was "
        "said; blue is right, red is wrong, the darker the larger the share of the row. The tables "
        "say the same."
    )
    return (
        f'<svg role="img" aria-label="{_text(alt)}" viewBox="0 0 {size} {size}" '
        f'width="{min(size, 960)}" font-family="sans-serif" font-size="11" '
        f'xmlns="http://www.w3.org/2000/svg"><rect x="{left}" y="{left}" '
        f'width="{size - left}" height="{size - left}" fill="#f7f7f7"/>{"".join(cells)}</svg>'
        "<p>Rows are the images' classes, columns what was said; blue is right, red is wrong.</p>"
    )


def _short(name):
    return name if len(name) <= 20 else name[:19] + "…"


def _mistakes(model, mistakes, class_names, names, images, verbose):
    if not mistakes:
        return "<h2>Worst mistakes</h2><p>None is listed.</p>"
    note = "The images are left out."
    pictures = [""] * len(mistakes)
    if images:
        pictures, note = _pictures(model, mistakes, class_names, verbose)
    entries = []
    for (of_truth, index, _, truth, said, of_said), picture in zip(mistakes, pictures, strict=True):
        name = f"image {index}" if names is None else names[index]
        entries.append(
            f"<figure>{picture}<figcaption>{_text(name)}<br>is <b>{_text(class_names[truth])}</b> "
            f"({of_truth:.1%}), was taken for <b>{_text(class_names[said])}</b> ({of_said:.1%})"
            "</figcaption></figure>"
        )
    return (
        f"<h2>Worst mistakes</h2><p>The {len(mistakes)} images to whose class the model gave the "
        "least probability, in brackets. Some may be labelled wrongly. "
        f"{note}</p><div class='mistakes'>{''.join(entries)}</div>"
    )


def _pictures(model, mistakes, class_names, verbose):
    """Returns the HTML of each mistake's image and of what spoke for the answer, and a note."""
    if mistakes[0][2].shape[-1] not in (1, 3):
        channels = mistakes[0][2].shape[-1]
        return [""] * len(mistakes), f"Images of {channels} channels are not shown."
    note = (
        "Beside each image is Grad-CAM for the answer: red spoke for it most, blue not; each has "
        "its own scale."
    )
    heats = [None] * len(mistakes)
    try:
        # One at a time where they differ in size.
        sizes = {mistake[2].shape for mistake in mistakes}
        groups = [mistakes] if len(sizes) == 1 else [[mistake] for mistake in mistakes]
        found = []
        for group in groups:
            stack, said = np.stack([m[2] for m in group]), np.array([m[4] for m in group])
            found.extend(grad_cam(model, stack, said, verbose=verbose))
        heats = found
    except (TypeError, ValueError) as error:
        note = f"There is no Grad-CAM of this model: {_text(str(error).splitlines()[0])}"
    low, high = _range([mistake[2] for mistake in mistakes])
    pictures = []
    for (_, index, image, truth, said, _), heat in zip(mistakes, heats, strict=True):
        pixels = ((image - low) * (255 / (high - low))).astype("uint8")
        alt = f"Image {index}, {class_names[truth]} taken for {class_names[said]}"
        picture = _picture(pixels, alt)
        if heat is not None:
            picture += " " + _picture(pixels, f"Grad-CAM of image {index}", heat)
        pictures.append(picture)
    return pictures, note


def _range(images):
    """Returns the numbers that are black and white."""
    if images[0].dtype == "uint8":
        return 0.0, 255.0
    low, high = (float(f([f(image) for image in images])) for f in (np.min, np.max))
    for ends in ((0.0, 1.0), (0.0, 255.0)):
        if ends[0] <= low and high <= ends[1]:
            return ends
    return low, high


def _picture(pixels, alt, heat=None):
    image_class = checks.package("PIL.Image", "Drawing", "plots")
    picture = image_class.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture = picture.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    is_small = max(picture.size) <= 64
    if heat is not None:
        if is_small:
            # The map is finer than the pixels of such an image.
            scale = 128 // max(picture.size)
            picture = picture.resize([side * scale for side in picture.size], 0)
        heat = heat / heat.max() if heat.max() > 0 else heat
        bilinear = image_class.Resampling.BILINEAR
        heat = np.asarray(
            image_class.fromarray(heat.astype("float32")).resize(picture.size, bilinear)
        )
        colours = checks.package("matplotlib", "Drawing", "plots").colormaps["jet"](heat)[..., :3]
        blended = (np.asarray(picture) / 255 + colours) / 2
        picture = image_class.fromarray((blended * 255).astype("uint8"))
    file = io.BytesIO()
    kind = "png" if is_small else "jpeg"
    picture.save(file, kind)
    smooth = "" if is_small and heat is None else ' class="smooth"'
    return _img(file.getvalue(), kind, alt, smooth)


def _table_of_settings(settings):
    if not settings:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{_text(name)}</th><td>{_text(value)}</td></tr>"
        for name, value in settings.items()
    )
    return f"<h2>Settings</h2><table>{rows}</table>"
