"""``mobilevision predict``: run a network on images, write JSON lines and drawings."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_line
from mobilevision.files import replacing_files
from mobilevision.images import read_image
from mobilevision.inference.drawing import Pixels, index_mask
from mobilevision.inference.predictor import Predictor
from mobilevision.inference.sources import distinct_names, find_sources
from mobilevision.models import get_model, list_models, load_model

LINES = "predictions.jsonl"


def run(arguments: list[str]) -> None:
    """Predict, and write the output when all of it is there."""
    given = _parser().parse_args(arguments)
    sources = find_sources(given.source, exclude=given.output)
    network = load_model(given.weights) if given.model is None else get_model(given.model, pretrained=given.weights)
    predictor = Predictor(network.to(_find_device(given.device)), score_threshold=given.score_threshold)
    with replacing_files(given.output) as folder:
        lines = []
        for path, name, pixels in _read(sources, skip_broken=given.skip_broken):
            lines.append({"path": str(path), **_write_result(predictor, pixels, folder, name)})
        if not lines:
            raise ValueError(f"none of {len(sources)} images could be read")
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / LINES).write_text(text, encoding="utf-8")
        _remove_earlier(given.output)
    skipped = f", {len(sources) - len(lines)} skipped" if len(lines) < len(sources) else ""
    print_line(f"{len(lines)} images{skipped}: {given.output / LINES}")


def _parser() -> CommandParser:
    parser = CommandParser("mobilevision predict", description="Run a network on images.")
    parser.add_argument("source", nargs="+", help="image, folder or glob pattern")
    parser.add_argument("--model", help=f"{', '.join(list_models())}; default: the network of the weights file")
    parser.add_argument("--weights", type=Path, required=True, help="weights file or checkpoint")
    parser.add_argument(
        "--output", type=Path, default=Path("predictions"), help="folder to write to, default: %(default)s"
    )
    parser.add_argument(
        "--score-threshold", type=float, default=0.3, help="least score of a detected object, default: %(default)s"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    parser.add_argument("--skip-broken", action="store_true", help="leave out images that do not decode")
    return parser


def _find_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device is cuda, but there is none")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _read(sources: list[Path], *, skip_broken: bool) -> Iterator[tuple[Path, str, Pixels]]:
    console = Console(stderr=True)
    named = list(zip(sources, distinct_names(sources), strict=True))
    for path, name in track(named, "predicting", console=console, transient=True, disable=not console.is_terminal):
        try:
            pixels = read_image(path)
        except ValueError as error:
            if not skip_broken:
                raise
            warnings.warn(f"skipped: {error}", stacklevel=2)
        else:
            yield path, name, pixels


def _write_result(predictor: Predictor, pixels: Pixels, folder: Path, name: str) -> dict[str, Any]:
    """Write drawing and masks, and return the result with their files, relative to ``folder``."""
    result = predictor(pixels)
    files = {"drawing": f"drawings/{name}.jpg"}
    _save(Image.fromarray(result.draw(pixels)), folder / files["drawing"], quality=92)
    masks = result.layers().get("masks", [])
    for number, layer in enumerate(masks, start=1):
        key = "mask" if len(masks) == 1 else f"mask_{number}"
        files[key] = f"masks/{name}.png" if len(masks) == 1 else f"masks/{name}_{number}.png"
        _save(index_mask(layer.mask), folder / files[key])
    return {**result.to_json(), **files}


def _remove_earlier(output: Path) -> None:
    """Remove the drawings and masks that the lines of an earlier run name, and no other file."""
    try:
        lines = [json.loads(line) for line in (output / LINES).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return
    for line in (line for line in lines if isinstance(line, dict)):
        names = [str(name) for key, name in line.items() if key in ("drawing", "mask") or key.startswith("mask_")]
        for place in map(Path, names):
            if len(place.parts) == 2 and place.parts[0] in ("drawings", "masks"):
                (output / place).unlink(missing_ok=True)
    (output / LINES).unlink()


def _save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    image.save(path, **options)
