"""``mobilevision score``: measure the predictions of any program with the official protocols."""

import math
from pathlib import Path

from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_absent, print_figures
from mobilevision.files import write_json
from mobilevision.scoring import score_coco, score_coco_in_detail, score_voc


def run(arguments: list[str]) -> None:
    """Print the figures of detections or masks, and write them to a file where one is given."""
    given = _parser().parse_args(arguments)
    if given.protocol == "voc":
        figures = score_voc(given.root, given.split, given.predictions)
    elif given.details is None:
        figures = score_coco(given.annotations, given.predictions)
    else:
        figures, details = score_coco_in_detail(given.annotations, given.predictions)
        write_json(given.details, details)
    print_figures(figures, f"score {given.protocol}")
    print_absent(
        [name.removeprefix("iou/") for name in figures if name.startswith("iou/") and math.isnan(figures[name])]
    )
    if given.json is not None:
        write_json(given.json, {name: None if math.isnan(value) else value for name, value in figures.items()})


def _parser() -> CommandParser:
    parser = CommandParser(
        "mobilevision score", description="Measure the predictions of any program with the official protocol."
    )
    protocols = parser.add_subparsers(dest="protocol", required=True, parser_class=CommandParser)
    coco = protocols.add_parser("coco", help="detections, by COCO's protocol")
    coco.add_argument("--annotations", type=Path, required=True, help="COCO annotation file")
    coco.add_argument("--predictions", type=Path, required=True, help="COCO result file")
    coco.add_argument("--details", type=Path, help="file to write curves, confusions and kinds of errors to")
    voc = protocols.add_parser("voc", help="masks, by the protocol of VOC 2012")
    voc.add_argument("--root", type=Path, required=True, help="folder VOC2012, or one that holds VOCdevkit/VOC2012")
    voc.add_argument("--split", default="val", help="list in ImageSets/Segmentation, default: val")
    voc.add_argument("--predictions", type=Path, required=True, help="folder of PNG masks with the names of the images")
    for protocol in (coco, voc):
        protocol.add_argument("--json", type=Path, help="file to write the figures to")
    return parser
