import io
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, TiffImagePlugin

from mobilevision.images import find_broken, find_images, read_image, read_size, to_tensor

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(height: int = 32, width: int = 48) -> Image.Image:
    """Make an image that JPEG keeps well and in which every corner differs."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 / width, y * 255 / height, (x + y) * 2], axis=2).astype(np.uint8))


def png16(pixels: np.ndarray) -> bytes:
    """Write 16-bit RGB, which Pillow cannot."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.fixture
def read(tmp_path: Path):
    """Write bytes to a file and read it as an image."""

    def read(data: bytes, name: str = "file") -> np.ndarray:
        (tmp_path / name).write_bytes(data)
        pixels = read_image(tmp_path / name)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        return pixels

    return read


def pixel(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (1, 1), value)


@pytest.mark.parametrize(
    ("image", "rgb"),
    [
        (pixel("RGB", (1, 2, 250)), (1, 2, 250)),
        (pixel("L", 77), (77, 77, 77)),
        (pixel("1", 1), WHITE),
        # Alpha is dropped and leaves the color as it is.
        (pixel("LA", (77, 9)), (77, 77, 77)),
        (pixel("RGBA", (1, 2, 3, 0)), (1, 2, 3)),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_every_mode_becomes_rgb(read, image: Image.Image, rgb: tuple[int, int, int]) -> None:
    assert read(encoded(image, "PNG")).tolist() == [[list(rgb)]]


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_a_palette_has_its_colors_whatever_is_transparent(read, transparency) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    assert read(encoded(image, "PNG", **options)).tolist() == [[list(RED), list(GREEN), list(BLUE)]]


@pytest.mark.parametrize(("kind", "name"), [("PNG", "deep.png"), ("TIFF", "deep.tif")])
def test_sixteen_bit_gray_is_scaled_and_not_clipped(read, kind: str, name: str) -> None:
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    # 257 sixteen-bit steps make one of eight bits; halves go up.
    assert read(encoded(Image.fromarray(deep), kind), name)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_sixteen_bit_color_is_scaled_and_not_clipped(read) -> None:
    deep = np.array([[[0, 257, 32768], [65535, 256 * 7, 40000]]], dtype=np.uint16)
    np.testing.assert_allclose(read(png16(deep)), deep / 257, atol=1)


def test_cmyk_becomes_rgb(read) -> None:
    pixels = read(encoded(smooth().convert("CMYK"), "JPEG", quality=95), "print.jpg")
    np.testing.assert_allclose(pixels, np.asarray(smooth()), atol=24)


def test_an_animation_gives_its_first_image(read) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, BLUE)]
    pixels = read(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "moving.gif")
    assert (pixels == RED).all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"subsampling": 0}),
        ("WEBP", {}),
        ("BMP", {}),
    ],
)
def test_every_format_gives_what_pillow_gives(read, kind: str, options: dict) -> None:
    data = encoded(smooth(), kind, **options)
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(read(data) - theirs).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_cameras_rotation_is_undone_once(read, kind: str, orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(smooth().convert(mode), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert upright.size == ((32, 48) if orientation > 4 else (48, 32))
    pixels = read(data)
    assert pixels.shape == np.asarray(upright).shape
    assert np.abs(pixels.astype(int) - np.asarray(upright)).max() <= 1


def test_a_rotated_image_by_hand(read) -> None:
    image = Image.new("RGB", (2, 1))
    image.putdata([RED, BLUE])
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    # The camera was turned to the right: what it saw on the left belongs on top.
    assert read(encoded(image, "PNG", exif=exif)).tolist() == [[list(RED)], [list(BLUE)]]


def test_a_plain_jpeg_is_decoded_by_the_faster_library(read, monkeypatch) -> None:
    calls = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *args: calls.append(args) or decode(*args))
    read(encoded(smooth(), "JPEG"))
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["a b.jpg", "käfer 犬 🦊.jpg", "no_suffix", "%d.jpg", "[1].jpg"])
def test_names_may_be_anything_and_paths_text(read, tmp_path: Path, name: str) -> None:
    assert read(encoded(smooth(), "JPEG"), name).shape == (32, 48, 3)
    assert read_image(str(tmp_path / name)).shape == (32, 48, 3)


def test_the_format_is_seen_in_the_file_not_in_its_name(read) -> None:
    assert (read(encoded(Image.new("RGB", (1, 1), RED), "PNG"), "actually.jpg") == RED).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "not a known format"), (b"hello\nworld", "not a known format"), (b"\xff\xd8\xff", "not a known format")],
)
def test_what_is_no_image_is_named_in_one_line(read, data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"text\.jpg does not decode as an image: {reason}") as caught:
        read(data, "text.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_image_is_refused_and_not_filled_up(read, kind: str, share: float) -> None:
    data = encoded(smooth(96, 128), kind)
    with pytest.raises(ValueError, match=r"cut does not decode as an image"):
        read(data[: int(len(data) * share)], "cut")


def test_a_jpeg_with_padding_after_its_end_is_whole(read) -> None:
    assert read(encoded(smooth(), "JPEG") + bytes(100)).shape == (32, 48, 3)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.jpg"):
        read_image(tmp_path / "nothing.jpg")


VALID = [encoded(smooth(), kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.sampled_from(VALID), changes=st.dictionaries(st.integers(0, 300), st.integers(0, 255), max_size=6))
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_a_damaged_image_gives_pixels_or_one_line(read, data: bytes, changes: dict[int, int]) -> None:
    damaged = bytearray(data)
    for place, value in changes.items():
        damaged[place % len(damaged)] = value
    message = ""
    try:
        assert read(bytes(damaged), "damaged").shape[2] == 3
    except ValueError as error:
        message = str(error)
    assert not message or re.search(r"damaged does not decode as an image: .+$", message)
    assert "\n" not in message


def test_images_are_found_in_order_by_suffix_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "deep/er/c.webp", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.png", "b.JPG", "deep/er/c.webp"]


def test_an_empty_or_missing_folder_has_no_images(tmp_path: Path) -> None:
    assert find_images(tmp_path) == []
    assert find_images(tmp_path / "nothing") == []


def test_broken_images_are_found_with_the_reason(tmp_path: Path) -> None:
    smooth().save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "missing.png"]
    broken = find_broken(paths)
    assert list(broken) == [str(path) for path in paths[1:]]
    assert "not a known format" in broken[str(paths[1])]
    assert "No such file" in broken[str(paths[2])]
    assert find_broken([]) == {}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_header_tells_the_size_that_the_image_is_read_in(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "file"
    path.write_bytes(encoded(smooth(), kind, **({} if kind == "BMP" else {"exif": exif.tobytes()})))
    assert read_size(path) == read_image(path).shape[:2]


def test_a_file_that_is_no_image_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.jpg does not decode as an image: not a known format"):
        read_size(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError):
        read_size(tmp_path / "b.jpg")


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_tensor_has_its_channels_first_and_its_pixels_in_memory_as_they_were(mirrored: bool) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    pixels = pixels[:, ::-1] if mirrored else pixels
    tensor = to_tensor(pixels)
    assert tensor.stride() == (1, 12, 3)
    assert torch.equal(tensor[1], torch.tensor(pixels[..., 1].tolist(), dtype=torch.uint8))
    assert mirrored or np.shares_memory(tensor.numpy(), pixels)


def tiff(values: np.ndarray, **tags: object) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[{"lowest": 280, "highest": 281}[name]] = value
    return encoded(Image.fromarray(values), "TIFF", tiffinfo=info)


def test_floats_are_read_in_0_to_1_and_others_refused(read) -> None:
    assert read(tiff(np.array([[0, 0.5, 1]], np.float32)))[0, :, 0].tolist() == [0, 128, 255]
    for wrong in (255.0, -0.5, float("nan")):
        with pytest.raises(ValueError, match=r"file: its values must be in 0 to 1, got .*(255|-0\.5|nan)"):
            read(tiff(np.array([[0, wrong]], np.float32)))


def test_a_stated_range_is_that_of_black_and_white(read) -> None:
    deep = np.array([[0, 2048, 4095]], np.uint16)
    assert read(tiff(deep, highest=4095))[0, :, 1].tolist() == [0, 128, 255]
    assert read(tiff(deep.astype(np.int32), highest=4095))[0, :, 1].tolist() == [0, 128, 255]
    assert read(tiff(deep.astype(np.float32), highest=4095))[0, :, 1].tolist() == [0, 128, 255]
    with pytest.raises(ValueError, match=r"file: its values must be in 0 to 4000, got 0 to 4095"):
        read(tiff(deep, highest=4000))


def test_a_stated_range_holds_for_colors_of_16_bits(read) -> None:
    colors = np.array([[[0, 2048, 4095], [4095, 0, 0]]], "<u2")
    # Width, height, bits, no compression, RGB, strip, samples, rows, bytes and the largest value.
    tags = {256: 2, 257: 1, 258: 134, 259: 1, 262: 2, 273: 140, 277: 3, 278: 1, 279: 12}
    entries = [(tag, 3 if tag == 258 else 1, value) for tag, value in tags.items()] + [(281, 1, 4095)]
    rows = b"".join(struct.pack("<HHII", tag, 3, count, value) for tag, count, value in entries)
    start = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + rows + struct.pack("<I", 0)
    pixels = read(start + struct.pack("<3H", 16, 16, 16) + colors.tobytes())
    assert pixels.tolist() == [[[0, 128, 255], [255, 0, 0]]]


def test_whole_numbers_without_a_range_are_refused_with_the_remedy(read, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"file: it holds whole numbers of mode I.*MaxSampleValue"):
        read(tiff(np.array([[0, 255]], np.int32)))
    with pytest.raises(ValueError, match=r"file: it holds whole numbers"):
        read_size(tmp_path / "file")


def test_hidden_files_are_no_images_and_all_that_is_left_out_is_counted(tmp_path: Path) -> None:
    left_out = ("._a.jpg", ".ipynb_checkpoints/a.jpg", "Thumbs.db", "__MACOSX/a.jpg", "b.heic", "deep/c.heic", "d")
    for name in ("a.jpg", "notes.txt", *left_out):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=r"4 files in .* are left out.*: 2 \.heic, 1 hidden, 1 without suffix"):
        assert find_images(tmp_path) == [tmp_path / "a.jpg"]


@pytest.mark.parametrize("suffix", ["JFIF", "avif", "jp2", "Pgm", "tga", "ico", "jpe"])
def test_images_are_found_and_read_whatever_their_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    smooth(32, 32).convert("L" if suffix == "Pgm" else "RGB").save(path, "JPEG" if suffix == "JFIF" else None)
    assert find_images(tmp_path) == [path]
    assert read_image(path).shape == (32, 32, 3)
