"""Images of every kind become the same pixels."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from mobilevision import Predictor, get_model, inference_model
from mobilevision.inference import inputs
from mobilevision.inference.inputs import read_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = np.full((5, 7, 1), 9, np.uint8)
GRAY = PIXELS[..., :1]


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    """A server on this machine, which sends files by name; one name is slow and never ends."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    files = {"/a.png": encoded(Image.fromarray(PIXELS)), "/a.txt": b"no image", "/large": bytes(1000)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/file":
                self.send_response(302)
                self.send_header("Location", "file:///etc/hostname")
            else:
                self.send_response(200 if self.path in files or self.path == "/slow" else 404)
            self.end_headers()
            self.wfile.write(files.get(self.path, b""))
            while self.path == "/slow" and not stop.wait(0.02):
                self.wfile.write(b" ")

        def log_message(self, *args):
            pass

    stop, listening = threading.Event(), ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    stop.set()
    listening.shutdown()
    listening.server_close()


@pytest.mark.parametrize(
    "image",
    [
        encoded(Image.fromarray(PIXELS)),
        Image.fromarray(PIXELS),
        Image.fromarray(np.concatenate([PIXELS, ALPHA], axis=2)),
        np.concatenate([PIXELS, ALPHA], axis=2),
        PIXELS / 255,
        PIXELS.astype(np.uint16) * 257,
        PIXELS.transpose(2, 0, 1),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        (torch.from_numpy(PIXELS).permute(2, 0, 1) / 255).requires_grad_(),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255 * 1.00001,
    ],
    ids=lambda image: f"{type(image).__name__} {getattr(image, 'dtype', '')} {list(getattr(image, 'shape', ''))}",
)
def test_every_kind_of_image_is_the_same_pixels(image):
    pixels = read_pixels(image)
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == PIXELS.tolist()


@pytest.mark.parametrize(
    "image", [GRAY, GRAY[..., 0], torch.from_numpy(GRAY[..., 0]), torch.from_numpy(GRAY[None, ..., 0])]
)
def test_gray_has_three_equal_channels(image):
    assert read_pixels(image).tolist() == GRAY.repeat(3, axis=2).tolist()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_an_image_of_pillows_may_have_any_mode(mode):
    deep = np.full((5, 7), 1, np.uint16) if mode == "I;16" else np.full((5, 7), 0.5, np.float32)
    image = Image.fromarray(deep) if mode in ("I;16", "F") else Image.fromarray(PIXELS).convert(mode)
    assert read_pixels(image).shape == (5, 7, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "got None: it was not read, as OpenCV returns None"),
        (7, "got int"),
        (PIXELS.astype(np.float32), "must be in 0 to 1, got 0 to 248: scale"),
        (PIXELS / 255 - 0.5, "must be in 0 to 1, got -0.5 to 0.47"),
        (np.full((2, 2, 3), np.nan), "must be in 0 to 1, got nan"),
        (PIXELS.astype(np.int64), "must be of uint8, uint16 or floats in 0 to 1, got int64"),
        (np.zeros((6, 5, 2), np.uint8), r"got uint8 of \[6, 5, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), r"not empty, got uint8 of \[0, 4, 3\]"),
        (torch.zeros(3), r"got float32 of \[3\]"),
        (b"no image", "image of 8 bytes does not decode as an image"),
        (Image.fromarray(np.full((5, 7), 70000, np.int32)), "image: it holds whole numbers of mode I"),
    ],
)
def test_what_is_no_image_is_refused_with_what_it_is(image, message):
    with pytest.raises(ValueError, match=message):
        read_pixels(image)


def test_an_address_is_fetched(server):
    assert read_pixels(f"{server}/a.png").tolist() == PIXELS.tolist()
    with pytest.raises(ValueError, match=r"http.*/a\.txt does not decode as an image"):
        read_pixels(f"{server}/a.txt")
    with pytest.raises(ValueError, match=r"/nowhere cannot be fetched: HTTP Error 404"):
        read_pixels(f"{server}/nowhere")
    with pytest.raises(ValueError, match=r"/file cannot be fetched: .*302"):
        read_pixels(f"{server}/file")


def test_an_address_has_a_limit_of_size_and_time(server, monkeypatch):
    monkeypatch.setattr(inputs, "MAX_BYTES", 999)
    with pytest.raises(ValueError, match=r"/large cannot be fetched: it has more than 999 bytes"):
        read_pixels(f"{server}/large")
    monkeypatch.setattr(inputs, "TIMEOUT", 0.2)
    with pytest.raises(ValueError, match=r"/slow cannot be fetched: it has not come within 0\.2 seconds"):
        read_pixels(f"{server}/slow")


def test_lists_and_batches_have_a_result_for_each_image(tmp_path):
    predict = Predictor(get_model("mobilenet_v2", num_classes=3, width_mult=0.1, input_size=32))
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    one = predict(path).pred_scores.tolist()
    batch = torch.from_numpy(PIXELS).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    for images in ([path, PIXELS], (str(path), path.read_bytes()), batch, batch / 255, np.stack([PIXELS, PIXELS])):
        assert [result.pred_scores.tolist() for result in predict(images)] == [one, one]
    assert predict([]) == []
    assert [result.pred_label for result in inference_model(predict.network, [path])] == [predict(path).pred_label]
    with pytest.raises(ValueError, match="got None"):
        predict([PIXELS, None])
