"""`freqops transform --from-jpeg`: coefficients of files as they are, pixels of the others."""

import json
import sys

import numpy as np
import pytest
import torch
from test_transform import photos, psnr, transform

import freqops
from freqops import reference
from freqops.channels import ChannelSelection
from freqops.data import read_image
from freqops.files import Settings, read
from freqops.jpeg import read_coefficients
from freqops.statistics import ChannelStatistics

__all__ = ["photos"]  # a fixture

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def photograph(height, width):
    """Part of a photograph: detail at all frequencies."""
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut()[100 : 100 + height, 150 : 150 + width])


@pytest.mark.parametrize(
    ("mode", "subsampling", "limit"),
    [("RGB", "4:4:4", 0.5), ("RGB", "4:2:0", 0.9), ("L", "", 0.03)],
)
@pytest.mark.parametrize("size", [(48, 64), (61, 83)])
def test_from_jpeg_inverts_to_what_pillow_decodes(tmp_path, mode, subsampling, limit, size):
    """Measured: mean 0.39 for 4:4:4, the decoder's rounding to YCbCr and to RGB; 0.79 for 4:2:0,
    where it smooths chroma; 0.02 for gray, where little but halves differ."""
    options = {"subsampling": subsampling} if subsampling else {}
    photograph(*size).convert(mode).save(tmp_path / "a.jpg", quality=90, **options)
    source = tmp_path / "a.jpg"
    assert transform(source, "-o", tmp_path, "--from-jpeg", "--channels", 192) == 0
    content = read(tmp_path / "a.jpg.safetensors")
    assert content.size == size
    assert content.settings.source == "jpeg"
    got = content.picture().permute(1, 2, 0).numpy().astype(float)
    want = np.array(Image.open(source).convert("RGB"))
    assert np.abs(got - want).mean() < limit


@pytest.mark.parametrize("orientation", [3, 6])
def test_from_jpeg_is_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph(48, 64).save(tmp_path / "a.jpg", quality=95, subsampling="4:4:4", exif=exif)
    arguments = [tmp_path / "a.jpg", "-o", tmp_path, "--channels", 192, "--from-jpeg"]
    assert transform(*arguments) == 0
    got = read(tmp_path / "a.jpg.safetensors").picture()
    want = read_image(tmp_path / "a.jpg")
    assert got.shape == want.shape
    assert psnr(want.numpy(), got.numpy()) > 50  # measured 52


def test_from_jpeg_counts_what_is_decoded(photos, tmp_path, capsys):
    photograph(40, 56).save(photos / "a.jpg")
    photograph(40, 56).convert("CMYK").save(photos / "cmyk.jpg")
    whole = (photos / "a.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    arguments = [photos, "-o", tmp_path / "out", "--from-jpeg", "--channels", 192]
    assert transform(*arguments) == 1
    out, err = capsys.readouterr()
    counts = "5 written (4 of them decoded: no JPEG coefficients to take), 1 broken and skipped"
    assert out == f"{counts}: {tmp_path / 'out'}\n"
    lines = sorted(err.splitlines())
    assert [line.split(": ")[1] for line in lines] == [
        f"decoded {photos / 'cat.bmp'}",
        f"decoded {photos / 'cat.png'}",
        f"decoded {photos / 'cmyk.jpg'}",
        f"decoded {photos / 'sub' / 'dog.PNG'}",
        f"skipped {photos / 'cut.jpg'}",
    ]
    assert lines[0] == f"freqops: decoded {photos / 'cat.bmp'}: not a JPEG file"
    assert "CMYK" in lines[2]
    assert err.count("cut.jpg") == 1
    for name in ("cat.png", "cmyk.jpg"):
        content = read(tmp_path / "out" / f"{name}.safetensors")
        want = read_image(photos / name)
        assert (content.picture().int() - want.int()).abs().max() <= 1
    assert transform(*arguments, "--overwrite", "--quiet") == 1
    out, err = capsys.readouterr()
    assert out.startswith(counts)
    assert err.splitlines() == lines[4:]
    # What is done stays done; what pixels made is not taken for it.
    assert transform(*arguments) == 1
    assert capsys.readouterr().out.startswith("0 written, 5 done before, 1 broken")
    assert transform(photos, "-o", tmp_path / "out", "--channels", 192) == 2
    assert "was not made with these options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "grid", "size"),
    [
        ([], (13, 19), (101, 150)),
        (["--resize", "50"], (7, 10), (51, 75)),  # 4/8
        (["--resize", "41", "--crop", "37"], (5, 5), (40, 40)),  # (13, 2): 42 x 62
        (["--crop", "17"], (3, 3), (24, 24)),
        (["--crop", "101"], (13, 13), (101, 104)),
        (["--preprocess", "resnet50", "--resize", "200", "--crop", "160"], (20, 20), (160, 160)),
    ],
)
def test_from_jpeg_scales_coefficients(tmp_path, options, grid, size):
    photograph(101, 150).save(tmp_path / "a.jpg", quality=95, subsampling="4:4:4")
    arguments = [tmp_path / "a.jpg", "-o", tmp_path, "--channels", 192, *options]
    assert transform(*arguments, "--from-jpeg") == 0
    got = read(tmp_path / "a.jpg.safetensors")
    assert got.coefficients.shape[1:] == grid
    assert got.size == size
    assert got.picture().shape[1:] == size


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ([], (301, 250)),
        (["--crop", "100"], (104, 104)),
        (["--resize", "115"], (142, 118)),  # (15, 2): 565, 469 eighths of 301, 250
        (["--preprocess", "resnet50"], (448, 448)),
        (["--resize", "100", "--crop", "90", "--statistics", "photographs"], (96, 96)),
    ],
)
def test_from_jpeg_takes_other_formats_the_same_way(tmp_path, options, size):
    """Measured at most 2.6 RMS; 32 where the pixels are resized and cropped to the pixel."""
    photograph(301, 250).save(tmp_path / "a.jpg", quality=100, subsampling="4:4:4")
    photograph(301, 250).save(tmp_path / "a.png")
    assert transform(tmp_path, "-o", tmp_path, "--from-jpeg", "--channels", 64, *options) == 0
    stored, decoded = (read(tmp_path / f"a.{kind}.safetensors") for kind in ("jpg", "png"))
    assert stored.settings == decoded.settings
    assert stored.size == decoded.size == size
    assert stored.coefficients.shape == decoded.coefficients.shape
    error = stored.picture().float() - decoded.picture().float()
    assert error.square().mean().sqrt() < 3.5


def test_from_jpeg_tolerant_completes_a_run(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    photograph(96, 96).save(photos / "a.jpg", quality=95)
    whole = (photos / "a.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: 2 * len(whole) // 3])
    arguments = [photos, "-o", tmp_path / "out", "--from-jpeg"]
    assert transform(*arguments) == 1
    reason = "Premature end of JPEG file (the file is truncated)"
    out, err = capsys.readouterr()
    assert out.startswith("1 written, 1 broken and skipped")
    way = "(--tolerant takes what can be decoded)"
    assert err == f"freqops: skipped {photos / 'cut.jpg'}: {reason} {way}\n"
    assert transform(*arguments, "--tolerant") == 0
    out, err = capsys.readouterr()
    counts = "1 written (1 of them damaged: what could be read was taken)"
    assert out == f"{counts}, 1 done before: {tmp_path / 'out'}\n"
    assert err == f"freqops: damaged {photos / 'cut.jpg'}: {reason}\n"
    sound, cut = (read(tmp_path / f"out/{name}.jpg.safetensors") for name in ("a", "cut"))
    assert torch.equal(cut.coefficients[:, :4], sound.coefficients[:, :4])
    assert not cut.coefficients[:, -1].equal(sound.coefficients[:, -1])
    assert (sound.settings.tolerant, cut.settings.tolerant) == (False, True)
    # What damage made is not taken for a strict run's.
    assert transform(*arguments) == 2
    assert "cut.jpg.safetensors is there already, but was not made" in capsys.readouterr().err
    assert transform(*arguments, "--tolerant") == 0
    assert capsys.readouterr() == (f"0 written, 2 done before: {tmp_path / 'out'}\n", "")
    assert transform(*arguments, "--tolerant", "--overwrite", "--quiet") == 0
    counts = "2 written (1 of them damaged: what could be read was taken)"
    assert capsys.readouterr() == (f"{counts}: {tmp_path / 'out'}\n", "")


def test_from_jpeg_of_a_damaged_picture_that_is_decoded_says_both(tmp_path, capsys):
    file = tmp_path / "a.jpg"
    photograph(20, 24).save(file)
    file.write_bytes(file.read_bytes()[:-2] + b"leftover" + b"\xff\xd9")
    arguments = [file, "-o", tmp_path, "--from-jpeg", "--tolerant", "--resize", 96, "--crop", 96]
    assert transform(*arguments) == 0
    out, err = capsys.readouterr()
    decoded = "1 of them decoded: no JPEG coefficients to take"
    damaged = "1 of them damaged: what could be read was taken"
    assert out == f"1 written ({decoded}; {damaged}): {tmp_path}\n"
    assert [line.split()[1] for line in err.splitlines()] == ["decoded", "damaged"]


def test_from_jpeg_takes_no_file_for_done_that_does_not_say_whether_damage_was_tolerated(
    tmp_path, capsys
):
    photograph(40, 56).save(tmp_path / "a.jpg")
    arguments = [tmp_path / "a.jpg", "-o", tmp_path, "--from-jpeg", "--format", "npy"]
    assert transform(*arguments) == 0
    description = tmp_path / "a.jpg.json"
    words = description.read_text()
    description.write_text(words.replace(r", \"tolerant\": false", ""))
    assert description.read_text() != words
    assert read(tmp_path / "a.jpg.npy").settings.source == "jpeg"
    for tolerant in ([], ["--tolerant"]):
        assert transform(*arguments, *tolerant) == 2
        assert "was not made with these options" in capsys.readouterr().err


def test_from_jpeg_of_a_picture_too_small_for_eighths_is_decoded(tmp_path, capsys):
    photograph(20, 24).save(tmp_path / "a.jpg")
    arguments = [tmp_path / "a.jpg", "-o", tmp_path, "--from-jpeg", "--resize", "96"]
    assert transform(*arguments, "--crop", "96") == 0
    assert "1 written (1 of them decoded" in capsys.readouterr().out
    assert read(tmp_path / "a.jpg.safetensors").size == (96, 96)


def test_from_jpeg_of_a_crop_that_only_the_pixels_have_once_upright(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 2
    photograph(92, 75).save(tmp_path / "a.jpg", subsampling="4:2:0", exif=exif)
    assert transform(tmp_path / "a.jpg", "-o", tmp_path, "--from-jpeg", "--crop", "70") == 0
    assert "1 written (1 of them decoded" in capsys.readouterr().out


def test_from_jpeg_without_the_reader_is_one_sentence(tmp_path, monkeypatch, capsys):
    photograph(40, 56).save(tmp_path / "a.jpg")
    monkeypatch.setitem(sys.modules, "freqops._jpeg", None)
    monkeypatch.delattr(freqops, "_jpeg", raising=False)
    arguments = [tmp_path / "a.jpg", "-o", tmp_path / "out"]
    assert transform(*arguments, "--from-jpeg") == 1
    err = capsys.readouterr().err
    assert "freqops has no JPEG reader" in err
    assert "Traceback" not in err
    assert transform(*arguments) == 0  # by pixels


def test_from_jpeg_normalises(tmp_path):
    photograph(40, 56).save(tmp_path / "a.jpg")
    arguments = [tmp_path / "a.jpg", "-o", tmp_path, "--from-jpeg", "--format", "npy"]
    assert transform(*arguments, "--dtype", "float16", "--statistics", "photographs") == 0
    got = read(tmp_path / "a.jpg.npy")
    statistics = ChannelStatistics.photographs()
    c = read_coefficients(tmp_path / "a.jpg")
    want = reference.jpeg_gather(
        *(c.y, c.cb, c.cr, c.tables, ChannelSelection.square(24)),
        subsampling=c.subsampling,
        mean=statistics.mean,
        std=statistics.std,
    )
    torch.testing.assert_close(got.coefficients.float(), want, atol=1e-2, rtol=1e-3)


def test_settings_of_pixels_read_as_they_were_written_before_there_was_a_source():
    words = Settings(ChannelSelection.square(24)).words()
    assert not {"source", "tolerant"} & set(json.loads(words))
    assert Settings.from_words(words).source == "pixels"
    jpeg = Settings(ChannelSelection.square(24), source="jpeg")
    assert Settings.from_words(jpeg.words()) == jpeg
    tolerant = Settings(ChannelSelection.square(24), source="jpeg", tolerant=True)
    assert Settings.from_words(tolerant.words()) == tolerant != jpeg
    with pytest.raises(ValueError, match="tolerant must be False with source 'pixels', got True"):
        Settings(ChannelSelection.square(24), tolerant=True)
    with pytest.raises(ValueError, match="source must be one of pixels, jpeg, got 'film'"):
        Settings(ChannelSelection.square(24), source="film")
    with pytest.raises(ValueError, match="chroma and rounding must be"):
        Settings(ChannelSelection.square(24), rounding="jpeg", source="jpeg")
    with pytest.raises(ValueError, match="dtype must not be 'float64' with source 'jpeg'"):
        Settings(ChannelSelection.square(24), dtype="float64", source="jpeg")
