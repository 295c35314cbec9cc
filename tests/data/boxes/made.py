"""Small folders with boxes in each form, made on the spot."""

import json

import numpy as np
from PIL import Image


def image(path, size=(40, 60), grey=128, **kwargs):
    """Writes an image of (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size[::-1], grey).save(path, **kwargs)


def xml(name, objects, size=(40, 60), more=""):
    """Returns the text of an XML; an object is (class, x1, y1, x2, y2)."""
    parts = [f"<annotation>\n<filename>{name}</filename>\n"]
    if size is not None:
        parts.append(f"<size><width>{size[1]}</width><height>{size[0]}</height></size>\n")
    for label, *edges in objects:
        tags = zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
        box = "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in tags)
        parts.append(f"<object><name>{label}</name>{more}<bndbox>{box}</bndbox></object>\n")
    return "".join([*parts, "</annotation>\n"])


def voc(folder, examples):
    """Writes a folder of Pascal VOC's form of {name: objects}."""
    for name, objects in examples.items():
        image(folder / "JPEGImages" / f"{name}.png")
        write(folder / "Annotations" / f"{name}.xml", xml(f"{name}.png", objects))
    return folder


def coco(annotations, images=("a.png", "b.png"), categories=((3, "cat"), (7, "dog")), **more):
    """Returns the text of a JSON; an annotation is (image, category, bbox, further keys)."""
    return json.dumps(
        {
            "images": [
                {"id": number, "file_name": name, "height": 40, "width": 60}
                for number, name in enumerate(images)
            ],
            "annotations": [
                {"id": number, "image_id": image, "category_id": label, "bbox": box, **further}
                for number, (image, label, box, further) in enumerate(annotations)
            ],
            "categories": [{"id": number, "name": name} for number, name in categories],
        }
        | more
    )


def write(path, text):
    """Writes a text, and the folders it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def boxes_of(dataset, split="train"):
    """Returns by the name of an image its (class, x1, y1, x2, y2), of a dataset of files."""
    found = {}
    for path, annotation in zip(dataset.file_paths(split), dataset.annotations(split), strict=True):
        names = [dataset.class_names[label] for label in annotation["labels"]]
        found[path.rpartition("/")[2]] = [
            (name, *box) for name, box in zip(names, annotation["boxes"].tolist(), strict=True)
        ]
    return found


def painted(size, box, channels=1):
    """Returns a black image with a white box of whole pixels."""
    found = np.zeros((*size, channels), "float32")
    left, top, right, bottom = box
    found[top:bottom, left:right] = 255
    return found
