"""``mobilevision check-data``: find what is wrong with a dataset before it is trained on."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from mobilevision.cli.check_boxes import check_boxes, find_boxes
from mobilevision.cli.check_classes import CLASS_FORMAT, check_class_folders, looks_like_class_folders
from mobilevision.cli.check_masks import MASK_FORMATS, check_mask_splits, find_asked_format, guess_format
from mobilevision.cli.errors import CommandParser
from mobilevision.cli.tables import print_line, print_table
from mobilevision.detection.formats.exports import SPLIT_NAMES, Format
from mobilevision.files import write_json
from mobilevision.findings import Finding

PROBLEMS_FOUND = 1

FORMATS: tuple[str, ...] = (*get_args(Format), *MASK_FORMATS, CLASS_FORMAT)

NUM_SHOWN = 10
"""Findings of one kind that are printed; the report has them all."""


def run(arguments: list[str]) -> int:
    """Check a dataset; the exit code is 1 where there are problems, and 0 where there are notes at most."""
    given = _parser().parse_args(arguments)
    given.root = given.root.expanduser()
    if not given.root.is_dir():
        raise FileNotFoundError(f"--root must be a folder, got {given.root}")
    name = given.format or _find_format(given)
    if given.fix is not None and name not in get_args(Format):
        raise ValueError("--fix is for datasets with boxes: masks have to be drawn again")
    if name == CLASS_FORMAT:
        findings, report = check_class_folders(given)
    elif name in MASK_FORMATS:
        findings, report = check_mask_splits(name, given)
    else:
        findings, report = check_boxes(cast(Format, name), given)
    print_findings(findings)
    problems = [finding for finding in findings if finding.is_problem]
    print_line(f"{len(problems)} problems, {len(findings) - len(problems)} notes")
    if given.json is not None:
        write_json(given.json, {"format": name, "findings": [_as_json(finding) for finding in findings], **report})
        print_line(f"report: {given.json}")
    return PROBLEMS_FOUND if problems else 0


def _find_format(given: Namespace) -> str:
    asked = find_asked_format(given)
    if asked is not None:
        return asked
    try:
        return find_boxes(None, given).format
    except FileNotFoundError:
        guessed = guess_format(given.root) or (CLASS_FORMAT if looks_like_class_folders(given) else None)
        if guessed is None:
            raise
        return guessed


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the number of findings of each kind, problems first, and the first ones of each kind."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: not finding.is_problem):
        by_kind.setdefault(finding.kind, []).append(finding)
    if by_kind:
        rows = [(kind, "problem" if of[0].is_problem else "note", str(len(of))) for kind, of in by_kind.items()]
        print_table("findings", ("kind", "", "count"), rows)
    for kind, found in by_kind.items():
        for finding in found[:NUM_SHOWN]:
            print_line(f"{kind}: {finding}")
        if len(found) > NUM_SHOWN:
            print_line(f"{kind}: {len(found) - NUM_SHOWN} more, which --json writes")


def _as_json(finding: Finding) -> dict[str, str | bool]:
    return {
        "kind": finding.kind,
        "problem": finding.is_problem,
        "file": str(finding.file),
        "place": finding.place,
        "message": finding.message,
    }


def _parser() -> CommandParser:
    parser = CommandParser(
        "mobilevision check-data",
        description="Read a dataset as a whole and report what is wrong with it. Exit code: 0 where there are no "
        "problems, 1 where there are some, 2 where the dataset could not be read at all.",
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--format", choices=FORMATS, help="recognized by what is in the folder where not given")
    for split in SPLIT_NAMES:
        for kind in ("annotations", "images"):
            text = f"path of the {split} {kind} in the folder; the format's own where not given"
            parser.add_argument(f"--{split}-{kind}", help=text)
    for split in SPLIT_NAMES:
        parser.add_argument(f"--{split}-masks", help=f"folder of the {split} masks, for the format masks")
    parser.add_argument("--image-suffix", default="", help="ending of the images' names that masks do not share")
    parser.add_argument(
        "--mask-suffix", default="", help="ending of the masks' names that images do not share, default: .png or any"
    )
    parser.add_argument("--splits", nargs="+", help="lists to check, for the format voc-masks; default: train val test")
    parser.add_argument("--classes", nargs="+", help="the masks' classes in order, background included")
    parser.add_argument("--class-table", help="file that names the class of each number or color")
    parser.add_argument("--input-size", type=int, default=320, help="side of the network's input, default: %(default)s")
    parser.add_argument("--json", type=Path, help="file to write all findings and figures to")
    parser.add_argument(
        "--fix",
        type=Path,
        help="file to write a cleaned copy of the annotations to, as COCO's JSON; of several splits one file each, "
        "named after it: OUT_train.json, OUT_val.json and OUT_test.json",
    )
    parser.add_argument(
        "--sheet", type=Path, default=Path("check_data.png"), help="image of samples to write, default: %(default)s"
    )
    parser.add_argument("--num-threads", type=int, default=8, help="images read at once, default: %(default)s")
    return parser
