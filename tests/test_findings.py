import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilevision.findings import Finding, inspect_picture, inspect_pictures, refuse

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def kinds(path: Path) -> list[str]:
    return [finding.kind for finding in inspect_picture(path).findings]


def test_a_finding_says_file_place_and_message_on_one_line() -> None:
    assert str(Finding("unknown class", Path("a.csv"), "line 3", "there is no cat")) == "a.csv: line 3: there is no cat"
    assert str(Finding("truncated", Path("a.jpg"), "", "decodes only in part")) == "a.jpg: decodes only in part"
    with pytest.raises(ValueError, match=r"^a\.csv: line 3: there is no cat$"):
        refuse(Finding("unknown class", Path("a.csv"), "line 3", "there is no cat"))


def test_a_good_picture_has_no_findings_and_a_size(tmp_path: Path) -> None:
    inspected = inspect_picture(save(tmp_path / "a.png", Image.fromarray(PIXELS)))
    assert (inspected.size, inspected.findings) == ((20, 30), ())


@pytest.mark.parametrize(
    ("mode", "suffix", "kind"),
    [("L", "jpg", "grey"), ("LA", "png", "grey"), ("1", "png", "grey"), ("CMYK", "jpg", "CMYK"), ("RGBA", "png", None)],
)
def test_unusual_pixels_are_noted(tmp_path: Path, mode: str, suffix: str, kind: str | None) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(PIXELS).convert(mode))
    assert kinds(path) == [kind] * (kind is not None)
    assert inspect_picture(path).size == (20, 30)


def test_sixteen_bits_are_noted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257))
    assert kinds(path) == ["16-bit"]
    assert not inspect_picture(path).findings[0].is_problem


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_that_ends_too_early_is_truncated(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(PIXELS))
    path.write_bytes(path.read_bytes()[:-60])
    (finding,) = inspect_picture(path).findings
    assert finding.kind == "truncated"
    assert finding.is_problem
    assert "\n" not in str(finding)
    assert inspect_picture(path).size is None


def test_what_is_no_picture_or_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    (tmp_path / "b.jpg").touch()
    assert [kinds(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")] == [
        ["undecodable"],
        ["undecodable"],
        ["missing picture"],
    ]


def test_the_digest_is_that_of_the_pixels_whatever_the_file(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    paths = [
        save(tmp_path / "a.png", image),
        save(tmp_path / "b.bmp", image),
        save(tmp_path / "c.png", image.transpose(Image.Transpose.ROTATE_90)),
        save(tmp_path / "d.png", Image.fromarray(PIXELS.reshape(30, 20, 3))),
    ]
    first, again, turned, reshaped = (inspected.digest for inspected in inspect_pictures(paths))
    assert first == again
    assert len({first, turned, reshaped}) == 3


def test_pictures_are_inspected_in_their_order(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{side}.png", Image.fromarray(PIXELS[:side])) for side in (3, 9, 5, 1)]
    assert [inspected.size for inspected in inspect_pictures(paths, num_threads=3)] == [
        (3, 30),
        (9, 30),
        (5, 30),
        (1, 30),
    ]
    assert list(inspect_pictures([])) == []


def test_a_picture_that_only_looks_like_16_bits_in_another_format_is_not(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "BMP")
    (tmp_path / "a.bmp").write_bytes(buffer.getvalue())
    assert kinds(tmp_path / "a.bmp") == []
