"""`freqops transform`: which files it writes, what they hold, and what survives broken input."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import freqops.files
from freqops import reference
from freqops.channels import ChannelSelection
from freqops.cli import main
from freqops.files import Coefficients, Settings, read, write
from freqops.statistics import ChannelStatistics
from freqops.transform import find_pictures, plan, resize_and_crop

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def pixels(height=40, width=56, seed=0):
    """A smooth coloured picture, as photographs are: a 5 x 7 picture enlarged."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), "uint8")
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def save(path, **size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(**size)).save(path)
    return path


def psnr(want, got):
    error = np.square(want.astype("float64") - got.astype("float64")).mean()
    return 10 * np.log10(255**2 / error) if error else np.inf


def files(folder):
    """Every file below a folder, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def transform(*arguments):
    return main(["transform", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path):
    """cat.png and cat.bmp beside each other, and dog.png in a subfolder."""
    folder = tmp_path / "photos"
    save(folder / "cat.png", seed=1)
    save(folder / "cat.bmp", seed=2, height=17, width=9)
    save(folder / "sub" / "dog.PNG", seed=3, height=8, width=8)
    (folder / "notes.txt").write_text("no picture")
    save(folder / ".hidden.png")
    return folder


def test_folders_keep_their_structure_and_equal_stems_do_not_meet(photos, tmp_path, capsys):
    assert transform(photos, "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == [
        "cat.bmp.safetensors",
        "cat.png.safetensors",
        "sub/dog.PNG.safetensors",
    ]
    assert capsys.readouterr().out == f"3 written: {tmp_path / 'out'}\n"


@pytest.mark.parametrize("file_format", ["safetensors", "npy"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("statistics", ["none", "photographs"])
def test_every_format_inverts_to_the_picture(tmp_path, file_format, dtype, statistics):
    source = save(tmp_path / "a.png", height=21, width=30)
    arguments = ["--format", file_format, "--dtype", dtype, "--statistics", statistics]
    assert transform(source, "-o", tmp_path, "--channels", 192, *arguments) == 0
    content = read(tmp_path / f"a.png.{file_format}")
    assert content.coefficients.dtype == getattr(torch, dtype)
    assert content.coefficients.shape == (192, 3, 4)
    got = content.picture().permute(1, 2, 0).numpy()
    # float32: 192 channels hold everything, and errors of 1e-3 are rounded away. float16: 11 bits
    # of a DC in [-1024, 1016] are off by 1/4 at most, a pixel by 1/32: few cross a half.
    assert psnr(pixels(21, 30), got) > (100 if dtype == "float32" else 50)


@pytest.mark.parametrize("file_format", ["safetensors", "npy"])
def test_the_numbers_are_those_of_the_reference(tmp_path, file_format):
    source = save(tmp_path / "a.png", height=21, width=30)
    options = ["--chroma", "dctnet", "--rounding", "jpeg", "--statistics", "photographs"]
    options += ["--channels", "24", "--format", file_format]
    assert transform(source, "-o", tmp_path, *options) == 0
    got = read(tmp_path / f"a.png.{file_format}")
    statistics = ChannelStatistics.photographs()
    want = reference.block_dct(
        torch.from_numpy(pixels(21, 30)).permute(2, 0, 1),
        ChannelSelection.square(24),
        chroma="dctnet",
        rounding="jpeg",
        dtype=torch.float64,
    )
    assert got.size == (21, 30)
    chosen = list(ChannelSelection.square(24).indices)
    mean, std = (values[chosen, None, None] for values in (statistics.mean, statistics.std))
    units = got.coefficients.double() * std + mean
    torch.testing.assert_close(units, units.round(), atol=1e-3, rtol=0)
    # Either neighbour of a half is right, and DCs of integers are multiples of 1/8.
    assert (units.round() - want).abs().max() <= 1
    assert (units.round() == want).double().mean() > 0.95
    assert got.settings == Settings(
        ChannelSelection.square(24),
        tuple(statistics.mean.tolist()),
        tuple(statistics.std.tolist()),
        "dctnet",
        "jpeg",
    )


def test_channels_left_out_count_as_their_mean(tmp_path):
    """A picture from 24 normalised channels: the rest come back as the statistics' means."""
    source = save(tmp_path / "a.png")
    mean, std = [3.0] * 192, [2.0] * 192
    ChannelStatistics(mean, std).save(tmp_path / "statistics.json")
    arguments = ["--statistics", tmp_path / "statistics.json", "--channels", "0,64,128"]
    assert transform(source, "-o", tmp_path, *arguments) == 0
    content = read(tmp_path / "a.png.safetensors")
    full = torch.full((192, 5, 7), 3.0)
    full[[0, 64, 128]] = content.coefficients * 2 + 3
    torch.testing.assert_close(content.picture(), reference.block_idct(full, size=(40, 56)))


def test_the_files_are_readable_without_freqops(tmp_path):
    source = save(tmp_path / "a.png")
    assert transform(source, "-o", tmp_path, "--channels", "0,8") == 0
    assert transform(source, "-o", tmp_path, "--channels", "0,8", "--format", "npy") == 0
    from safetensors import safe_open

    with safe_open(tmp_path / "a.png.safetensors", "np") as file:
        metadata, array = file.metadata(), file.get_tensor("coefficients")
    assert metadata == json.loads((tmp_path / "a.png.json").read_text())
    assert (metadata["height"], metadata["width"]) == ("40", "56")
    settings = json.loads(metadata["settings"])
    assert (settings["channels"], settings["chroma"]) == ([0, 8], "4:4:4")
    np.testing.assert_array_equal(array, np.load(tmp_path / "a.png.npy"))
    assert array.shape == (2, 5, 7)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_broken_picture_is_named_skipped_and_counted(photos, tmp_path, capsys, workers):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    whole = (photos / "cat.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert transform(photos, "-o", tmp_path / "out", "--workers", workers) == 1
    out, err = capsys.readouterr()
    assert out == f"3 written, 2 broken and skipped: {tmp_path / 'out'}\n"
    assert sorted(line.split(": ")[1] for line in err.splitlines()) == [
        f"skipped {photos / 'broken.jpg'}",
        f"skipped {photos / 'cut.png'}",
    ]
    assert len(files(tmp_path / "out")) == 3


@pytest.mark.parametrize("options", [[], ["--from-jpeg"]])
def test_what_is_no_picture_is_named_once_with_the_reason(tmp_path, capsys, options):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_text("<!DOCTYPE html>")
    (tmp_path / "page.png").write_text("<!DOCTYPE html>")
    assert transform(tmp_path, "-o", tmp_path / "out", *options) == 1
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"freqops: skipped {tmp_path / 'empty.jpg'}: not a JPEG file: it is empty",
        f"freqops: skipped {tmp_path / 'page.jpg'}: not a JPEG file: it looks like text",
        f"freqops: skipped {tmp_path / 'page.png'}: cannot identify its format",
    ]


def test_a_file_that_cannot_be_opened_is_named_once(photos, tmp_path, monkeypatch, capsys):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("freqops.transform.read_image", refuse)
    assert transform(photos / "cat.png", "-o", tmp_path / "out") == 1
    assert capsys.readouterr().err == f"freqops: skipped {photos / 'cat.png'}: Permission denied\n"


def test_a_second_run_goes_on_where_the_first_ended(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert transform(photos, "-o", out) == 0
    first = out / "cat.png.safetensors"
    stamp = first.stat().st_mtime_ns
    (out / "sub" / "dog.PNG.safetensors").unlink()
    assert transform(photos, "-o", out) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"1 written, 2 done before: {out}"
    assert first.stat().st_mtime_ns == stamp
    assert transform(photos, "-o", out, "--overwrite") == 0
    assert capsys.readouterr().out == f"3 written: {out}\n"
    assert first.stat().st_mtime_ns > stamp


@pytest.mark.parametrize("file_format", ["safetensors", "npy"])
def test_files_made_with_other_options_are_not_taken_for_done(
    photos, tmp_path, capsys, file_format
):
    arguments = [photos, "-o", tmp_path / "out", "--format", file_format]
    assert transform(*arguments) == 0
    before = {p: (tmp_path / "out" / p).read_bytes() for p in files(tmp_path / "out")}
    save(photos / "aaa.png")  # comes first, and must not be written either
    assert transform(*arguments, "--channels", 6) == 2
    assert "was not made with these options: use --overwrite" in capsys.readouterr().err
    assert {p: (tmp_path / "out" / p).read_bytes() for p in files(tmp_path / "out")} == before
    assert transform(*arguments, "--channels", 6, "--overwrite") == 0
    assert read(tmp_path / "out" / f"cat.png.{file_format}").coefficients.shape[0] == 6


def test_a_foreign_file_is_not_taken_for_done(photos, tmp_path, capsys):
    target = tmp_path / "out" / "cat.png.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"something else")
    assert transform(photos / "cat.png", "-o", tmp_path / "out") == 2
    assert str(target) in capsys.readouterr().err
    assert target.read_bytes() == b"something else"


@pytest.mark.parametrize("file_format", ["safetensors", "npy"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError("No space left on device")])
def test_a_write_that_fails_leaves_nothing_behind(
    photos, tmp_path, monkeypatch, capsys, file_format, failure
):
    """The writer fails with half a file written, for the last of three pictures."""
    import safetensors.torch

    def fail_half_way(path_or_file):
        if hasattr(path_or_file, "write"):
            path_or_file.write(b"half")
        else:
            path_or_file.write_bytes(b"half")
        raise failure

    save_file, np_save = safetensors.torch.save_file, np.save
    monkeypatch.setattr(
        safetensors.torch,
        "save_file",
        lambda t, p, m: fail_half_way(p) if "dog" in p.name else save_file(t, p, m),
    )
    monkeypatch.setattr(
        np, "save", lambda f, a: fail_half_way(f) if "dog" in f.name else np_save(f, a)
    )
    arguments = [photos, "-o", tmp_path / "out", "--workers", 1, "--format", file_format]
    code = transform(*arguments)
    assert code == (130 if failure is KeyboardInterrupt else 1)
    err = capsys.readouterr().err
    assert ("interrupted" if failure is KeyboardInterrupt else "No space left") in err
    left = files(tmp_path / "out")
    assert [p for p in left if not p.endswith(".json")] == [
        f"cat.bmp.{file_format}",
        f"cat.png.{file_format}",
    ]
    assert not [p for p in left if p.split("/")[-1].startswith(".")]
    monkeypatch.undo()
    assert transform(*arguments) == 0
    assert read(tmp_path / "out" / f"sub/dog.PNG.{file_format}").size == (8, 8)


def test_overwriting_npy_never_pairs_old_numbers_with_new_settings(tmp_path, monkeypatch):
    """Interrupted between the two files, the numbers are gone rather than misread."""
    source = save(tmp_path / "a.png")
    arguments = [source, "-o", tmp_path, "--format", "npy"]
    assert transform(*arguments, "--channels", "0,1") == 0

    def interrupt(file, array):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", interrupt)
        assert transform(*arguments, "--channels", "1,0", "--overwrite") == 130
    assert not (tmp_path / "a.png.npy").exists()
    assert transform(*arguments, "--channels", "1,0") == 0
    assert read(tmp_path / "a.png.npy").settings.channels.indices == (1, 0)


def test_ctrl_c_keeps_what_is_done(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for i in range(400):
        save(photos / f"{i:03}.png", height=240, width=320, seed=i)
    # A background job starts with SIGINT ignored, and Python then leaves it so.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    code += "from freqops.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "transform", photos, "-o", out, "--channels", "192"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while time.monotonic() < end and len(list(out.glob("*.safetensors"))) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().endswith("freqops: interrupted; what was finished is kept")
    assert "Traceback" not in err
    done = files(out)
    assert 5 <= len(done) < 400
    assert all(read(out / name).coefficients.shape == (192, 30, 40) for name in done)


def test_pictures_that_would_become_one_file_are_refused(tmp_path, capsys):
    a, b = save(tmp_path / "a" / "x.png", seed=1), save(tmp_path / "b" / "x.png", seed=2)
    assert transform(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert str(a) in err
    assert str(b) in err
    assert not (tmp_path / "out").exists()


def test_a_picture_named_twice_is_taken_once(photos):
    assert len(find_pictures([photos, photos / "cat.png", photos / "sub"])) == 3
    assert len(plan([photos, photos], "out", "npy")) == 3


def test_a_file_named_by_itself_may_end_in_anything(tmp_path):
    source = save(tmp_path / "a.png")
    source = source.rename(tmp_path / "picture.data")
    assert transform(source, "-o", tmp_path) == 0
    assert (tmp_path / "picture.data.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg must be a picture or a folder, found nothing there"),
        (["empty"], "empty must hold pictures, found none in it"),
        (["a.png", "--channels", "some"], "--channels must be a number, numbers such as"),
        (["a.png", "--channels", "0,192"], "must lie in [0, 192), got 192"),
        (["a.png", "--channels", "0"], "channels must lie in [1, 192], got 0"),
        (["a.png", "--channels", "3,3"], "channels must not repeat"),
        (["a.png", "--channels", "a.png"], "ChannelSelection saved by freqops, got 'a.png'"),
        (["a.png", "--statistics", "nowhere"], "--statistics must be none, photographs, or"),
        (["a.png", "--statistics", "a.png"], "ChannelStatistics saved by freqops, got 'a.png'"),
        (["a.png", "--format", "npy", "--dtype", "bfloat16"], "--dtype must not be bfloat16"),
        (["a.png", "--from-jpeg", "--chroma", "4:2:0"], "--chroma and --rounding must be left out"),
        (["a.png", "--from-jpeg", "--rounding", "jpeg"], "--chroma and --rounding must be left"),
        (
            ["a.png", "--from-jpeg", "--resize", "224", "--crop", "256"],
            "freqops: crop 256 must not be larger than the short side 224\n",
        ),
        (["a.png", "--tolerant"], "--tolerant must be left out without --from-jpeg"),
        (["a.png", "--from-jpeg", "--dtype", "float64"], "--dtype must not be float64 with"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_code_2(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    assert transform(*arguments, "-o", "out") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("freqops: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_statistics_measured_otherwise_are_used_with_a_note(tmp_path, capsys):
    source = save(tmp_path / "a.png")
    picture = torch.from_numpy(pixels()).permute(2, 0, 1)
    path = tmp_path / "statistics.json"
    ChannelStatistics.from_images([picture], chroma="4:2:0").save(path)
    arguments = [source, "-o", tmp_path, "--statistics", path, "--overwrite"]
    assert transform(*arguments, "--chroma", "4:2:0") == 0
    assert capsys.readouterr().err == ""
    assert transform(*arguments) == 0
    assert "was measured with chroma 4:2:0 and rounding none" in capsys.readouterr().err
    shipped = [source, "-o", tmp_path, "--statistics", "photographs", "--overwrite"]
    assert transform(*shipped, "--chroma", "dctnet") == 0
    assert "photographs was measured with chroma 4:4:4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("24", ChannelSelection.square(24)),
        ("10", ChannelSelection.triangle(10)),
        ("learned", ChannelSelection.learned()),
        ("5,0, 191", ChannelSelection([5, 0, 191])),
        ("selection.json", ChannelSelection([7, 3])),
    ],
)
def test_every_way_to_name_channels(tmp_path, monkeypatch, text, want):
    monkeypatch.chdir(tmp_path)
    ChannelSelection([7, 3]).save("selection.json")
    assert transform(save(tmp_path / "a.png"), "-o", tmp_path, "--channels", text) == 0
    assert read(tmp_path / "a.png.safetensors").settings.channels == want


@pytest.mark.parametrize(
    ("options", "grid"),
    [
        (["--preprocess", "resnet50"], (56, 56)),
        (["--preprocess", "mobilenet_v2"], (112, 112)),
        (["--preprocess", "resnet50", "--crop", "40"], (5, 5)),
        (["--resize", "24"], (3, 5)),
        (["--crop", "17"], (3, 3)),
    ],
)
def test_resize_and_crop_options(tmp_path, options, grid):
    source = save(tmp_path / "a.png", height=40, width=56)
    assert transform(source, "-o", tmp_path, *options) == 0
    assert read(tmp_path / "a.png.safetensors").coefficients.shape[1:] == grid


def test_a_picture_that_outgrows_the_memory_is_broken(tmp_path, capsys):
    """1 x 60000 with a short side of 100000: 7.2 PB, beyond any address space."""
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "in" / "line.png", height=1, width=60000)
    options = ["--resize", "100000", "--crop", "16", "-o", str(tmp_path / "out")]
    line = str(tmp_path / "in" / "line.png")
    assert main(["transform", line, *options]) == 1
    out, err = capsys.readouterr()
    assert out == f"0 written, 1 broken and skipped: {tmp_path / 'out'}\n"
    assert f"skipped {line}" in err
    assert "allocate" in err


def test_a_picture_smaller_than_the_crop_is_broken(tmp_path, capsys):
    source = save(tmp_path / "a.png", height=40, width=56)
    assert transform(source, "-o", tmp_path, "--crop", "41") == 1
    assert "a crop of 41 must fit into the picture, which is 40 x 56" in capsys.readouterr().err


@pytest.mark.parametrize(("height", "width"), [(30, 47), (47, 30), (33, 33)])
def test_resize_and_crop_by_hand(height, width):
    """Bilinear at pixel centres: output i reads (i + 1/2) short / 24 - 1/2; then the middle."""
    picture = pixels(height, width).astype("float64")
    got = resize_and_crop(torch.from_numpy(pixels(height, width)).permute(2, 0, 1), 24, 16)
    tall, wide = (24 * n // min(height, width) for n in (height, width))

    def sample(values, size):
        at = ((np.arange(size) + 0.5) * len(values) / size - 0.5).clip(0, len(values) - 1)
        low = np.floor(at).astype(int)
        high = (low + 1).clip(max=len(values) - 1)
        share = (at - low).reshape(-1, 1, 1)
        return values[low] * (1 - share) + values[high] * share

    scaled = sample(sample(picture, tall).swapaxes(0, 1), wide).swapaxes(0, 1)
    top, left = round((tall - 16) / 2), round((wide - 16) / 2)
    want = scaled[top : top + 16, left : left + 16]
    assert got.shape == (3, 16, 16)
    assert np.abs(got.permute(1, 2, 0).numpy() - want).max() < 0.51


def test_paper_sizes_agree_with_the_python_pipeline():
    pytest.importorskip("torchvision", exc_type=ImportError)
    from freqops.data import preprocess

    picture = torch.from_numpy(pixels(300, 451)).permute(2, 0, 1)
    want = preprocess("resnet50")(picture)
    got = resize_and_crop(picture, 512, 448)
    # torchvision's 8-bit resize may round a half the other way.
    assert (got.int() - want.int()).abs().max() <= 1


def test_settings_survive_their_words():
    settings = Settings(
        ChannelSelection([3, 1]), (0.1,) * 192, (1 / 3,) * 192, "4:2:0", "jpeg", "float16", 512, 448
    )
    assert Settings.from_words(settings.words()) == settings
    assert Settings(ChannelSelection([3, 1])).words() != Settings(ChannelSelection([1, 3])).words()


@pytest.mark.parametrize("name", ["text.safetensors", "text.npy", "array.npy"])
def test_reading_something_else_names_the_file(tmp_path, name):
    (tmp_path / name).write_text("text")
    (tmp_path / name).with_suffix(".json").write_text('{"format": "another"}')
    with pytest.raises(ValueError, match="path must name coefficients that freqops wrote, got"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("0.jpg", "its name ends in neither .safetensors nor .npy"),
        ("0", "its name ends in neither .safetensors nor .npy"),
        ("0.npy", "there is no 0.json beside it"),
        ("folder", "it is a folder"),
        ("folder.safetensors", "it is a folder"),
        ("folder.npy", "it is a folder"),
    ],
)
def test_reading_names_the_path_that_was_given(tmp_path, name, words):
    path = tmp_path / name
    with pytest.raises(FileNotFoundError) as missing:
        read(path)
    assert missing.value.filename == str(path)
    if name.startswith("folder"):
        path.mkdir()
    else:
        path.touch()
    with pytest.raises(ValueError, match="path must name coefficients") as raised:
        read(str(path))
    assert str(raised.value).endswith(f"wrote, got {str(path)!r}: {words}")


def test_an_unknown_version_is_refused(tmp_path, monkeypatch):
    content = Coefficients(torch.zeros(1, 1, 1), (8, 8), Settings(ChannelSelection([0])))
    monkeypatch.setattr(freqops.files, "_VERSION", 99)
    write(content, tmp_path / "a.safetensors")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="'99', known is 1"):
        read(tmp_path / "a.safetensors")


def test_a_folder_that_cannot_be_read_is_named(photos, tmp_path, monkeypatch, capsys):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert transform(photos, "-o", tmp_path / "out") == 2
    assert f"{photos / 'sub'} must be a folder to read: Permission" in capsys.readouterr().err
