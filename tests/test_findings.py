from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mobilevision.findings import Finding, inspect_image, inspect_images, raise_finding

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def kinds(path: Path) -> list[str]:
    return [finding.kind for finding in inspect_image(path).findings]


def test_a_finding_says_file_place_and_message_on_one_line() -> None:
    assert str(Finding("unknown class", Path("a.csv"), "line 3", "there is no cat")) == "a.csv: line 3: there is no cat"
    assert str(Finding("truncated", Path("a.jpg"), "", "decodes only in part")) == "a.jpg: decodes only in part"
    assert str(Finding("unknown class", Path("a.csv"), "", "there is no a\nb")) == "a.csv: there is no a b"
    with pytest.raises(ValueError, match=r"^a\.csv: line 3: there is no cat$"):
        raise_finding(Finding("unknown class", Path("a.csv"), "line 3", "there is no cat"))


@pytest.mark.parametrize(
    ("mode", "suffix", "kind"),
    [
        ("L", "jpg", "grayscale"),
        ("LA", "png", "grayscale"),
        ("1", "png", "grayscale"),
        ("CMYK", "jpg", "CMYK"),
        ("RGBA", "png", None),
        ("RGB", "png", None),
        # Where a PNG has its depth, this one has a number too.
        ("RGB", "bmp", None),
    ],
)
def test_unusual_pixels_are_noted_and_others_not(tmp_path: Path, mode: str, suffix: str, kind: str | None) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(PIXELS).convert(mode))
    assert kinds(path) == [kind] * (kind is not None)
    assert inspect_image(path).size == (20, 30)


def test_sixteen_bits_are_noted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257))
    assert kinds(path) == ["16-bit"]
    assert not inspect_image(path).findings[0].is_problem


def test_the_used_part_of_sixteen_bits_is_told(tmp_path: Path) -> None:
    gray = save(tmp_path / "a.png", Image.fromarray(PIXELS[..., 0].astype(np.uint16).clip(1) * 16))
    cv2.imwrite(str(tmp_path / "b.png"), PIXELS.astype(np.uint16) * 16)
    for path in (gray, tmp_path / "b.png"):
        (finding,) = inspect_image(path).findings
        assert "uses 4,080 of 65,535 values" in finding.message


def test_values_without_a_range_are_a_problem(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(PIXELS[..., 0].astype(np.float32)))
    (finding,) = inspect_image(path).findings
    assert (finding.kind, finding.is_problem) == ("unknown range", True)
    assert finding.message.startswith("its values must be in 0 to 1")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_an_image_that_ends_too_early_is_truncated(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(PIXELS))
    path.write_bytes(path.read_bytes()[:-60])
    (finding,) = inspect_image(path).findings
    assert finding.kind == "truncated"
    assert finding.is_problem
    assert "\n" not in str(finding)
    assert inspect_image(path).size is None


def test_what_is_no_image_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    (tmp_path / "b.jpg").touch()
    assert kinds(tmp_path / "a.jpg") == kinds(tmp_path / "b.jpg") == ["undecodable"]
    assert kinds(tmp_path / "c.jpg") == ["missing image"]


def test_the_digest_is_that_of_the_pixels_whatever_the_file(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    paths = [
        save(tmp_path / "a.png", image),
        save(tmp_path / "b.bmp", image),
        save(tmp_path / "c.png", image.transpose(Image.Transpose.ROTATE_90)),
        save(tmp_path / "d.png", Image.fromarray(PIXELS.reshape(30, 20, 3))),
    ]
    first, again, turned, reshaped = (inspected.digest for inspected in inspect_images(paths))
    assert first == again
    assert len({first, turned, reshaped}) == 3


def test_images_are_inspected_in_their_order(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{side}.png", Image.fromarray(PIXELS[:side])) for side in (3, 9, 5, 1)]
    assert [image.size for image in inspect_images(paths, num_threads=3)] == [(3, 30), (9, 30), (5, 30), (1, 30)]
    assert list(inspect_images([])) == []
