"""Networks of timm's with weights by a formula, and what a maintainer records of timm's package.

    pip install timm==1.0.31
    python -m tests.support.timm_networks results-imagenet.csv

writes `keras_fmm/models/timm.csv`, what timm's package says of its weights, with the accuracies of
timm's file results/results-imagenet.csv (kept where it is not given), and
`tests/support/timm_cases.json`: of each of `CASES` what its state dict holds and ten of its logits.
"""

import csv
import dataclasses
import json
import pathlib
import sys
import zlib

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
TABLE = ROOT / "keras_fmm" / "models" / "timm.csv"
RECORDED = pathlib.Path(__file__).with_name("timm_cases.json")

# Each kind once, with the least blocks, and the sides of an image, odd ones too: padding differs.
CASES = {
    "resnet10t": (64, 47),
    "resnet14t": (33, 64),
    "resnet18": (64, 64),
    "resnet18d": (45, 64),
    "resnet26": (64, 35),
    "resnet26d": (37, 37),
    "resnet50c": (32, 33),
    "resnet50s": (33, 40),
    "wide_resnet50_2": (33, 32),
    "seresnet18": (64, 51),
    "seresnet50": (32, 39),
    "ecaresnet26t": (39, 64),
    "ecaresnetlight": (33, 34),
    "mobilenetv1_100": (64, 65),
}


def numbers(name, shape):
    """Returns float32 numbers of 0 to 1 that depend on a name and a shape alone."""
    mixed = np.arange(int(np.prod(shape)), dtype="uint32") * np.uint32(2654435761)
    mixed += np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    return (mixed / np.float32(2**32)).astype("float32").reshape(shape)


def weights(shapes):
    """Returns a state dict, arrays by the names of `shapes`, whose network keeps its scale.

    Args:
        shapes: dict from PyTorch's names to shapes.
    """
    state = {}
    for name, shape in shapes.items():
        values = numbers(name, shape)
        if name.endswith("num_batches_tracked"):
            values = np.array(7)
        elif name.endswith("running_var"):
            values = 0.5 + values
        elif name.endswith(("bias", "running_mean")):
            values = 0.4 * (values - 0.5)
        elif len(shape) == 1:
            values = 0.6 + 0.8 * values
        else:
            values = (2 * values - 1) * (6 / np.prod(shape[1:])) ** 0.5
        state[name] = values.astype("float32")
    return state


def narrow(name):
    """Returns the state dict of a recorded network with `filters=4`; gates have other sizes."""
    kept = (1, 3, 7, 1000)
    shapes = recorded()[name]["shapes"]
    return weights(
        {key: [n if n in kept else max(1, n // 16) for n in shape] for key, shape in shapes.items()}
    )


def image(sides):
    """Returns a normalized image by the formula, `(1, height, width, 3)`."""
    return 4 * numbers("image", (1, *sides, 3)) - 2


def recorded():
    """Returns what was recorded: a dict from `CASES` to dicts of "shapes" and "logits"."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def timm_module(name):
    """Returns timm's network, without weights of its own, as for inference."""
    import timm

    return timm.create_model(name, pretrained=False).eval()


def computed(module, images):
    """Returns what a network of PyTorch gives for `(batch, height, width, channels)`."""
    import torch

    with torch.no_grad():
        return module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


def _of_pytorch(name):
    import torch

    module = timm_module(name)
    shapes = {key: list(value.shape) for key, value in module.state_dict().items()}
    state = {key: torch.from_numpy(value) for key, value in weights(shapes).items()}
    module.load_state_dict(state)
    logits = computed(module, image(CASES[name]))[0, ::100]
    return {"shapes": shapes, "logits": [float(f"{x:.7g}") for x in logits]}


DATA = {
    "fb_ssl_yfcc100m_ft_in1k": "YFCC100M without labels, then ImageNet-1k",
    "fb_swsl_ig1b_ft_in1k": "a billion of Instagram's images by hashtag, then ImageNet-1k",
    "bamboo": "Bamboo",
    "untrained": "",
}


def _rows(results):
    """Yields a dict for each set of weights of each network that `from_timm` builds."""
    from timm.models import _registry

    from keras_fmm.models import timm

    former = {new: old for old, new in _registry._deprecated_models.items()}
    networks = [
        *_registry._module_to_models["resnet"],
        *(name for name in _registry._model_entrypoints if name.startswith("mobilenetv1")),
    ]
    for network in sorted(networks):
        if not timm.is_computed(network):
            continue
        cfgs = _registry._model_default_cfgs[network]
        for tag in cfgs.tags:
            cfg, name = cfgs.cfgs[tag], f"{network}.{tag}"
            assert cfg.hf_hub_id == ("timm/" if tag != "untrained" else None), name
            assert cfg.crop_mode == "center", name
            yield {
                "network": network,
                "tag": tag,
                "classes": cfg.num_classes,
                "image_size": cfg.input_size[1],
                "crop_pct": cfg.crop_pct,
                "test_image_size": (cfg.test_input_size or cfg.input_size)[1],
                "test_crop_pct": cfg.test_crop_pct or cfg.crop_pct,
                "interpolation": cfg.interpolation,
                "mean": " ".join(map(str, cfg.mean)),
                "std": " ".join(map(str, cfg.std)),
                "license": "" if tag == "untrained" else cfg.license or "",
                "data": DATA.get(tag, "ImageNet-1k"),
                "top1": results.get(name, {}).get("top1", ""),
                "top5": results.get(name, {}).get("top5", ""),
                "former_name": former.get(name, ""),
            }


def _results(arguments):
    if arguments:
        table, key = pathlib.Path(arguments[0]), lambda row: row["model"]
    else:
        table, key = TABLE, lambda row: f"{row['network']}.{row['tag']}"
    with table.open(encoding="utf-8", newline="") as file:
        return {key(row): row for row in csv.DictReader(file)}


def main(arguments):
    from keras_fmm.models.timm import Pretrained

    rows = list(_rows(_results(arguments)))
    columns = [field.name for field in dataclasses.fields(Pretrained)]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    lines = [f'"{name}": {json.dumps(_of_pytorch(name), separators=(",", ":"))}' for name in CASES]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
