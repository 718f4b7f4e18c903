"""Untrusted pictures through the real child: what they become, and what is refused."""

from __future__ import annotations

import os
import platform
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from engine.intake import Budget, Intake, Refused
from engine.untrusted.syscalls import ARCHITECTURES
from tests.stages.ledger_kit import wait_until

Array = npt.NDArray[np.uint8]
RED, CLEAR, SOLID = (255, 0, 0), (0, 0, 0, 0), (0, 0, 0, 255)


@pytest.fixture(scope="module")
def intake() -> Iterator[Intake]:
    made = Intake()
    yield made
    made.close()


def _file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _pixels(png: bytes) -> Array:
    return np.asarray(Image.open(BytesIO(png), formats=["PNG"]))


def _noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(5).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(values.squeeze(), mode) if bands < 4 else Image.fromarray(values)


def _mask(width: int, height: int, clear: tuple[int, int, int, int]) -> bytes:
    mask = Image.new("RGBA", (width, height), SOLID)
    mask.paste(CLEAR, clear)
    return _file(mask)


def _refusal(intake: Intake, data: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        intake.normalise(data)
    return caught.value


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_lossless_pixels_come_through_exactly(intake: Intake, kind: str, mode: str) -> None:
    image = _noise(33, 17, mode)
    if mode == "RGBA":
        image.putalpha(image.getchannel("A").point(lambda value: max(value, 1)))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    normal = intake.normalise(_file(image, kind, **options))
    assert (normal.width, normal.height) == (33, 17)
    assert np.array_equal(_pixels(normal.png), np.asarray(image))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("LA", (4, 4), (77, 5)), (77, 77, 77, 5)),
        (Image.new("P", (4, 4), 3), None),
        (Image.fromarray(np.full((4, 4), 0x8142, np.uint16)), (129, 129, 129)),
    ],
    ids=["1-bit", "grey", "grey-alpha", "palette", "16-bit"],
)
def test_every_mode_becomes_plain(
    intake: Intake, image: Image.Image, expected: tuple[int, ...] | None
) -> None:
    pixels = _pixels(intake.normalise(_file(image)).png)
    assert tuple(pixels[0, 0]) == (expected or image.convert("RGB").getpixel((0, 0)))


def test_a_transparent_colour_becomes_alpha(intake: Intake) -> None:
    pixels = _pixels(intake.normalise(_file(Image.new("RGB", (4, 4), RED), transparency=RED)).png)
    assert tuple(pixels[0, 0]) == (*RED, 0)


def test_cmyk_becomes_rgb(intake: Intake) -> None:
    jpeg = _file(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    red, green, blue = _pixels(intake.normalise(jpeg).png)[4, 4]
    assert red > 200 > 60 > max(green, blue)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright_and_has_no_past(intake: Intake, orientation: int) -> None:
    upright = np.zeros((6, 9, 3), np.uint8)
    upright[:3, :4] = RED
    back = {1: 0, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    back |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[back[orientation]])
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "where I live"
    png = intake.normalise(_file(stored, exif=exif, icc_profile=_profile("sRGB"))).png
    assert np.array_equal(_pixels(png), upright)
    assert Image.open(BytesIO(png)).info == {}
    assert b"where I live" not in png


def _profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def test_a_profile_is_applied_and_a_broken_one_costs_nothing(intake: Intake) -> None:
    image = _noise(8, 8)
    swapped = _profile("sRGB").replace(b"rXYZ", b"tmp ", 1).replace(b"bXYZ", b"rXYZ", 1)
    swapped = swapped.replace(b"tmp ", b"bXYZ", 1)  # red is called blue
    blue = _pixels(intake.normalise(_file(Image.new("RGB", (2, 2), RED), icc_profile=swapped)).png)
    assert tuple(blue[0, 0]) == (0, 0, 255)
    for profile in (b"no profile", _profile("XYZ"), _profile("sRGB")[:200]):
        png = intake.normalise(_file(image, icc_profile=profile)).png
        assert np.array_equal(_pixels(png), np.asarray(image))


def test_refusals_name_the_kind(intake: Intake) -> None:
    gif = _refusal(intake, _file(Image.new("P", (4, 4)), "GIF"))
    assert (gif.field, gif.code) == ("image", "unsupported_image")
    assert str(gif) == "the image is a GIF; PNG, JPEG and WebP are accepted"
    assert "a HEIC" in str(_refusal(intake, b"\0\0\0\x18ftypheic" + bytes(16)))
    assert "an SVG" in str(_refusal(intake, b" <svg xmlns='http://www.w3.org/2000/svg'/>"))


def test_animations_are_refused_and_single_frames_are_not(intake: Intake) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    for kind in ("PNG", "WEBP"):
        moving = _file(frames[0], kind, save_all=True, append_images=frames[1:])
        refused = _refusal(intake, moving)
        assert refused.code == "animated_image"
        assert "3 frames" in str(refused)


def test_budgets_are_read_from_the_header(intake: Intake) -> None:
    large = _file(Image.new("1", (5000, 5000)))
    refused = _refusal(intake, large)
    assert refused.code == "image_too_large"
    assert "5000x5000" in str(refused)
    assert "10000 an edge" in str(_refusal(intake, _file(Image.new("1", (10_001, 1)))))
    assert "MB; at most" in str(_refusal(intake, bytes(Budget().file_bytes + 1)))


def _canvas(intake: Intake, image: bytes, mask: bytes | None = None, markup: bytes | None = None):  # type: ignore[no-untyped-def]
    return intake.canvas(
        image, mask=mask, markup=markup, size=(64, 64), small_size=(16, 16), grid=(8, 8)
    )


def test_outside_the_mask_the_canvas_is_the_picture(intake: Intake) -> None:
    image = _noise(64, 64)
    canvas = _canvas(intake, _file(image), _mask(64, 64, (7, 0, 17, 9)))
    pixels = _pixels(canvas.canvas)
    outside = np.ones((64, 64), bool)
    outside[:9, 7:17] = False
    assert np.array_equal(pixels[..., :3], np.asarray(image))
    assert np.array_equal(pixels[..., 3], np.where(outside, 255, 0))
    redrawn = canvas.redraw.reshape(8, 8)  # one pixel of a cell is enough
    assert redrawn.sum() == 6
    assert redrawn[:2, :3].all()
    small = _pixels(canvas.small)
    assert small.shape == (16, 16, 4)
    covered = np.zeros((16, 16), bool)
    covered[:3, 1:5] = True  # whatever is edited in part
    assert np.array_equal(small[..., 3], np.where(covered, 0, 255))


def test_another_size_fills_and_is_cut_at_the_centre(intake: Intake) -> None:
    image = Image.new("RGB", (256, 128), "blue")
    image.paste(RED, (64, 0, 192, 128))
    canvas = _canvas(intake, _file(image), _mask(256, 128, (64, 0, 128, 64)))
    pixels = _pixels(canvas.canvas)
    assert (abs(pixels[4:-4, 4:-4, :3].astype(int) - RED) < 9).all()
    assert (pixels[:32, :32, 3] == 0).all()
    assert (pixels[:, 32:, 3] == 255).all()
    assert canvas.redraw.sum() == 16


def test_without_a_mask_everything_is_drawn_and_transparency_is_white(intake: Intake) -> None:
    canvas = _canvas(intake, _file(Image.new("RGBA", (64, 64), (9, 9, 9, 0))))
    assert canvas.redraw is None
    assert _pixels(canvas.small).shape == (16, 16, 3)
    assert (_pixels(canvas.canvas) == (255, 255, 255, 0)).all()


def test_a_picture_that_is_looked_at_is_scaled_and_not_cut(intake: Intake) -> None:
    small = _noise(80, 64)
    whole = intake.reference(_file(small), None, 80 * 64)
    assert np.array_equal(_pixels(whole.png), np.asarray(small))
    large = intake.reference(_file(Image.new("RGBA", (400, 200), (*RED, 255))), None, 20_000)
    assert (large.width, large.height) == (400, 200)
    assert (_pixels(large.png) == RED).all()
    assert _pixels(large.png).shape == (100, 200, 3)
    markup = Image.new("RGBA", (80, 64), (*RED, 255))
    assert (_pixels(intake.reference(_file(small), _file(markup), 9999).png) == RED).all()
    for odd in ((63, 90), (640, 70), (9000, 900)):
        with pytest.raises(Refused, match=f"{odd[0]}x{odd[1]}") as refused:
            intake.reference(_file(Image.new("RGB", odd)), None, 20_000)
        assert refused.value.code == "image_too_small"


def test_markup_lies_on_the_picture(intake: Intake) -> None:
    markup = Image.new("RGBA", (64, 64), CLEAR)
    markup.paste((*RED, 255), (0, 0, 8, 8))
    image = _noise(64, 64)
    pixels = _pixels(_canvas(intake, _file(image), markup=_file(markup)).canvas)[..., :3]
    assert (pixels[:8, :8] == RED).all()
    assert np.array_equal(pixels[8:], np.asarray(image)[8:])


@pytest.mark.parametrize(
    ("companion", "code"),
    [
        (_mask(32, 64, (0, 0, 9, 9)), "_size_mismatch"),
        (_file(Image.new("RGB", (64, 64))), "_without_alpha"),
        (_file(Image.new("RGB", (64, 64)), "JPEG"), "_not_png"),
    ],
    ids=["size", "no alpha", "jpeg"],
)
@pytest.mark.parametrize("field", ["mask", "markup"])
def test_a_companion_that_does_not_fit_is_named(
    intake: Intake, field: str, companion: bytes, code: str
) -> None:
    with pytest.raises(Refused) as caught:
        _canvas(intake, _file(_noise(64, 64)), **{field: companion})
    assert (caught.value.field, caught.value.code) == (field, field + code)


def test_a_mask_that_marks_nothing_is_refused(intake: Intake) -> None:
    with pytest.raises(Refused, match="nothing to edit"):
        _canvas(intake, _file(_noise(64, 64)), _mask(64, 64, (0, 0, 0, 0)))
    with pytest.raises(Refused, match="cut off at the edge"):
        _canvas(intake, _file(_noise(128, 64)), _mask(128, 64, (0, 0, 9, 64)))


def _child(intake: Intake, *seen: int) -> int:
    """The child that waits for the next call, locked in: one that has answered never sleeps."""
    (server,) = intake.pids()
    confined = "Seccomp:\t2" if platform.machine() in ARCHITECTURES else ""
    found = list[int]()

    def waits(pid: str) -> bool:
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            return "State:\tS" in status and confined in status
        return False

    def look() -> list[int]:
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        found[:] = [int(pid) for pid in children if int(pid) not in seen and waits(pid)]
        return found

    wait_until(look, "a child waits")
    return found[0]


def test_the_child_is_locked_in_and_ends_with_its_intake() -> None:
    intake = Intake()
    (server,) = intake.pids()
    child = _child(intake)
    for pid, files in ((server, "4"), (child, "3")):
        limits = Path(f"/proc/{pid}/limits").read_text()
        rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
        assert rows["Max address space"] == [str(Budget().memory_bytes)] * 2
        assert rows["Max open files"] == [files, files]
        assert rows["Max file size"] == rows["Max core file size"] == ["0", "0"]
        if os.getuid() == 0:
            assert Path(f"/proc/{pid}").stat().st_uid != 0
        assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "numpy" not in maps
        assert "torch" not in maps
    assert rows["Max cpu time"] == [str(Budget().cpu_seconds)] * 2
    gone = os.pidfd_open(child)
    intake.close()
    assert intake.pids() == ()
    assert not Path(f"/proc/{server}").exists()
    assert select.select([gone], [], [], 30)[0], "the child outlives its server"
    os.close(gone)


def test_no_child_sees_two_pictures() -> None:
    intake = Intake()
    try:
        servers, children = intake.pids(), [_child(intake)]
        for _ in range(3):
            assert intake.normalise(_file(_noise(8, 8))).width == 8
            children.append(_child(intake, *children))
        assert intake.pids() == servers
        assert not any(Path(f"/proc/{pid}").exists() for pid in children[:-1])
    finally:
        intake.close()


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGSTOP])  # dies; hangs
def test_a_child_that_fails_costs_its_own_picture_alone(signal_sent: signal.Signals) -> None:
    intake = Intake(budget=Budget(wall_seconds=2.0))
    try:
        child = _child(intake)
        os.kill(child, signal_sent)
        refused = _refusal(intake, _file(_noise(8, 8)))
        assert (refused.field, refused.code) == ("image", "broken_image")
        assert intake.normalise(_file(_noise(8, 8))).width == 8
        wait_until(lambda: not Path(f"/proc/{child}").exists(), "the child is gone")
    finally:
        intake.close()


def test_a_server_that_died_between_two_pictures_costs_none() -> None:
    intake = Intake()
    try:
        (pid,) = intake.pids()
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert intake.normalise(_file(_noise(8, 8))).width == 8
        assert intake.pids() != (pid,)
    finally:
        intake.close()


def test_many_threads_share_few_servers() -> None:
    intake = Intake(workers=2)
    sizes: list[int] = []

    def ask(width: int) -> None:
        sizes.append(intake.normalise(_file(_noise(width, 3))).width)

    threads = [threading.Thread(target=ask, args=(width,)) for width in range(2, 26)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(sizes) == list(range(2, 26))
        assert len(intake.pids()) <= 2
    finally:
        intake.close()


def test_the_child_dies_with_a_process_that_is_killed() -> None:
    code = "from engine.intake import Intake; print(*Intake().pids(), flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        gone = os.pidfd_open(child)
        holder.kill()
        holder.communicate()
    readable, _, _ = select.select([gone], [], [], 30)
    os.close(gone)
    assert readable, "the child outlives its parent"


def _photo(width: int, height: int, **options: object) -> bytes:
    """Soft shapes and some noise, as a camera's."""
    rough = _noise(max(2, width // 16), max(2, height // 16))
    return _file(rough.resize((width, height), Image.Resampling.BICUBIC), "JPEG", **options)


EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "where I live"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (_photo(640, 480, quality=95, exif=EXIF), "JPEG"),
        (_photo(640, 480, quality=30, progressive=True, exif=EXIF), "JPEG"),
        (_file(_noise(64, 48).convert("L"), "JPEG", exif=EXIF), "JPEG"),
        (_file(_noise(2, 2).resize((64, 48)).convert("CMYK"), "JPEG", exif=EXIF), "JPEG"),
        (_file(_noise(64, 48), "WEBP", quality=60, exif=EXIF), "WEBP"),
        (_file(_noise(64, 48), "WEBP", lossless=True, exif=EXIF), "WEBP"),
        (_file(_noise(64, 48), exif=EXIF), "PNG"),
        (_file(_noise(64, 48, "RGBA"), exif=EXIF), "PNG"),
        (_file(_noise(640, 480).convert("P"), optimize=True, exif=EXIF), "WEBP"),
    ],
    ids=["jpeg", "progressive", "grey", "cmyk", "webp", "lossless", "png", "alpha", "palette"],
)
def test_what_is_kept_is_upright_and_no_larger(intake: Intake, data: bytes, kind: str) -> None:
    kept = intake.keep(data)
    picture = Image.open(BytesIO(kept.data))
    given = Image.open(BytesIO(data))
    assert (kept.kind, picture.format) == (kind, kind)
    assert (kept.width, kept.height) == picture.size == given.size[::-1]
    assert len(kept.data) <= max(len(data), 65_536)
    assert not picture.getexif()
    assert b"where I live" not in kept.data
    want = _pixels(intake.normalise(data).png)[..., :3].astype(int)
    assert abs(np.asarray(picture.convert("RGB")).astype(int) - want).mean() < 12
    if given.format == "PNG":
        assert np.array_equal(np.asarray(picture.convert("RGB")), want)


def test_a_photo_of_many_pixels_is_decoded_at_a_part_of_its_size(intake: Intake) -> None:
    photo = _photo(8160, 6120, quality=80, exif=EXIF)
    kept = intake.keep(photo)
    assert (kept.width, kept.height) == (3060, 4080)
    assert len(kept.data) < len(photo)
    assert _canvas(intake, photo).redraw is None
    for width, height in ((8161, 6200), (10_001, 100)):
        assert _refusal(intake, _photo(width, height)).code == "image_too_large"
