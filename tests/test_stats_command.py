"""`freqops stats`: the statistics of crops, whoever measures them and however often interrupted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from freqops import jpeg
from freqops.channels import ChannelSelection
from freqops.cli import main
from freqops.data import JPEGTransform
from freqops.statistics import ChannelStatistics

pytest.importorskip("torchvision")
pytest.importorskip("tqdm")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from freqops.commands import stats  # noqa: E402
from freqops.training._processes import Processes  # noqa: E402
from freqops.training._seeds import drawing, seed_of  # noqa: E402
from freqops.training._statistics import LEAST, Crops, measure  # noqa: E402
from freqops.training._views import JPEGView, PixelView  # noqa: E402
from freqops.transform import find_pictures  # noqa: E402

COUNT = 150  # three shards
SMALL = ["--crop", "24", "--workers", "0"]
ALONE = Processes(0, 1, torch.device("cpu"))


def draw(folder: Path, count: int, suffix: str = "png") -> Path:
    """Pictures of many sizes and colours, at several depths."""
    random = np.random.default_rng(count)
    for i in range(count):
        low, high = sorted(random.integers(0, 257, 2))
        size = (*random.integers(24, 60, 2), 3)
        pixels = random.integers(low, high + 1, size).clip(0, 255).astype(np.uint8)
        path = folder / f"{i % 3}" / ("deep" if i % 2 else ".") / f"{i:03}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("pictures"), COUNT)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file that an uninterrupted run writes."""
    output = tmp_path_factory.mktemp("whole") / "stats.json"
    assert main(["stats", str(pictures), "-o", str(output), *SMALL]) == 0
    return output.read_bytes()


def partial(output: Path) -> Path:
    return output.parent / f".{output.name}.partial"


def assert_alike(got: ChannelStatistics, want: ChannelStatistics, bound: float = 1e-12) -> None:
    assert got.count == want.count
    assert (got.chroma, got.rounding) == (want.chroma, want.rounding)
    assert ((got.mean - want.mean) / want.std).abs().max() < bound
    assert (got.std / want.std - 1).abs().max() < bound


@pytest.mark.parametrize(
    ("options", "view", "seed", "modes"),
    [
        ([], PixelView(28, 24, train=True), 0, {}),
        (["--seed", "5", "--chroma", "4:2:0"], PixelView(28, 24, train=True), 5,
         {"chroma": "4:2:0"}),
        (["--view", "eval"], PixelView(28, 24, train=False), 0, {}),
        (["--view", "eval", "--resize", "40", "--rounding", "jpeg"], PixelView(40, 24, train=False),
         0, {"rounding": "jpeg"}),
    ],
)  # fmt: skip
def test_equals_the_statistics_of_the_same_crops(
    options: list[str],
    view: PixelView,
    seed: int,
    modes: dict[str, str],
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "new" / "stats.json"
    assert main(["stats", str(pictures), "-o", str(output), *SMALL, *options]) == 0
    crops = []
    for i, (path, _) in enumerate(find_pictures([pictures])):
        with drawing(seed_of(seed, "picture", 0, i)):
            crops.append(view(path))
    want = ChannelStatistics.from_images(crops, **modes)  # type: ignore[arg-type]
    assert want.count == COUNT * 9
    assert_alike(ChannelStatistics.load(output), want)
    assert [path.name for path in output.parent.iterdir()] == ["stats.json"]
    out, err = capsys.readouterr()
    assert out == f"{COUNT} pictures, {COUNT * 9} coefficients of each channel: {output}\n"
    assert err == ""


def test_one_shard_is_bit_for_bit_from_images(tmp_path: Path) -> None:
    folder = draw(tmp_path / "pictures", 5)
    output = tmp_path / "stats.json"
    assert main(["stats", str(folder), "-o", str(output), *SMALL, "--view", "eval"]) == 0
    view = PixelView(28, 24, train=False)
    want = ChannelStatistics.from_images(view(path) for path, _ in find_pictures([folder]))
    assert ChannelStatistics.load(output) == want


@pytest.mark.skipif(bool(jpeg.missing()), reason="no JPEG reader in this build")
@pytest.mark.parametrize("view", ["train", "eval"])
def test_from_jpeg(view: str, tmp_path: Path) -> None:
    folder = draw(tmp_path / "pictures", 6, "jpg")
    draw(folder / "others", 3)
    output = tmp_path / "stats.json"
    options = ["--from-jpeg", "--view", view]
    assert main(["stats", str(folder), "-o", str(output), *SMALL, *options]) == 0
    transform = JPEGTransform(None, preprocess=(28, 24), train=view == "train")
    found = []
    for i, (path, _) in enumerate(find_pictures([folder])):
        with drawing(seed_of(0, "picture", 0, i)):
            found.append(JPEGView(transform)(path))
    assert len(transform.channels) == len(ChannelSelection.of(None))
    assert ChannelStatistics.load(output) == ChannelStatistics.from_coefficients(found)


def test_the_default_is_the_papers_crop(tmp_path: Path) -> None:
    folder = draw(tmp_path / "pictures", 2)
    output = tmp_path / "stats.json"
    for options, side in (
        ([], 448),
        (["--preprocess", "mobilenet_v2"], 896),
        (["--preprocess", "mobilenet_v2", "--crop", "80", "--view", "eval"], 80),
    ):
        assert main(["stats", str(folder), "-o", str(output), "--workers", "0", *options]) == 0
        assert ChannelStatistics.load(output).count == 2 * (side // 8) ** 2


def test_workers_change_nothing(pictures: Path, whole: bytes, tmp_path: Path) -> None:
    output = tmp_path / "stats.json"
    threads = torch.get_num_threads()
    assert main(["stats", str(pictures), "-o", str(output), "--crop", "24", "--workers", "2"]) == 0
    assert output.read_bytes() == whole
    torch.set_num_threads(2)
    try:
        assert main(["stats", str(pictures), "-o", str(output), *SMALL]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert output.read_bytes() == whole


# Interrupts


def environment(rank: int = 0, processes: int = 1, port: int = 0) -> dict[str, str]:
    root = str(Path(stats.__file__).parents[2])
    given = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    if processes > 1:
        given |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        given |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return given


def test_killed_and_gone_on(pictures: Path, whole: bytes, tmp_path: Path) -> None:
    output = tmp_path / "stats.json"
    command = [sys.executable, "-c", KILLED, str(pictures), str(output)]
    assert subprocess.run(command, env=environment()).returncode == -signal.SIGKILL
    left = {path.name for path in partial(output).iterdir()}
    assert left == {"settings.json", "0.json"} and not output.exists()
    seen: list[int] = []
    found = measure(
        find_pictures([pictures]),
        output,
        Crops(28, 24),
        ALONE,
        step=lambda done, broken: seen.append(done),
    )
    assert seen[0] == LEAST and seen[-1] == COUNT
    assert found is not None and found.statistics == ChannelStatistics.load(output)
    assert output.read_bytes() == whole
    assert not partial(output).exists()


KILLED = """
import os, pathlib, signal, sys, torch
from freqops.training._processes import Processes
from freqops.training._statistics import Crops, measure
from freqops.transform import find_pictures

def step(done, broken):
    if done > 100:  # within the second shard
        os.kill(os.getpid(), signal.SIGKILL)

alone = Processes(0, 1, torch.device("cpu"))
measure(find_pictures([sys.argv[1]]), pathlib.Path(sys.argv[2]), Crops(28, 24), alone, step=step)
"""


def test_ctrl_c(
    pictures: Path,
    whole: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "stats.json"
    command = ["stats", str(pictures), "-o", str(output), *SMALL]

    def step(self: stats._Progress, done: int, broken: list[tuple[str, str]]) -> None:
        if done >= 64 + 32:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(stats._Progress, "step", step)
        assert main(command) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert "interrupted; what was finished is kept" in capsys.readouterr().err
    assert {path.name for path in partial(output).iterdir()} == {"settings.json", "0.json"}
    monkeypatch.setattr(stats, "QUIET", 0.0)
    assert main(command) == 0
    assert output.read_bytes() == whole
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "64 of 150 pictures done before" and lines[-1] == "150 of 150 pictures"
    assert main([*command, "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_two_processes_are_one(pictures: Path, whole: bytes, tmp_path: Path) -> None:
    """Of which the first has a shard less to do: it was finished before, and another is damaged."""
    output = tmp_path / "stats.json"
    crops = Crops(28, 24)

    def stop(done: int, broken: list[tuple[str, str]]) -> None:
        if done > 2 * LEAST:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(find_pictures([pictures]), output, crops, ALONE, step=stop)
    text = (partial(output) / "0.json").read_text()
    (partial(output) / "0.json").write_text(text[: len(text) // 2])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "freqops", "stats", str(pictures), "-o", str(output), *SMALL]
    both = [
        subprocess.Popen(
            command, env=environment(rank, 2, port), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    spoken = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], spoken
    assert output.read_bytes() == whole
    assert spoken[0][0].startswith(b"150 pictures, ") and spoken[1][0] == b""
    assert not partial(output).exists()


def test_other_pictures_or_options_do_not_go_on(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "stats.json"

    def begin(folder: Path, crops: Crops) -> None:
        def stop(done: int, broken: list[tuple[str, str]]) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            measure(find_pictures([folder]), output, crops, ALONE, step=stop)

    begin(pictures, Crops(28, 24))
    for options in (["--seed", "1"], ["--crop", "32"], ["--view", "eval"], ["--chroma", "dctnet"]):
        assert main(["stats", str(pictures), "-o", str(output), *SMALL, *options]) == 2
        text = capsys.readouterr().err
        assert "must be of the same pictures and options, but was begun with others: dele" in text
        assert str(partial(output)) in text
    assert main(["stats", str(pictures / "0"), "-o", str(output), *SMALL]) == 2
    begin(pictures, Crops(99, 24))  # the resize has no part in random crops


# Pictures that cannot be read


def test_broken_pictures_are_named_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw(tmp_path / "pictures", 70)
    output = tmp_path / "stats.json"
    broken = folder / "2" / "008.png"
    broken.write_bytes(broken.read_bytes()[:100])
    (folder / "1" / "empty.jpg").touch()
    command = ["stats", str(folder), "-o", str(output), *SMALL]
    assert main([*command, "--broken", "fail"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"freqops: {folder}/1/empty.jpg: ") and err.endswith("it is empty\n")
    assert err.count("\n") == 1
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out.startswith("69 pictures, 621 coefficients of each channel, 2 broken and skipped: ")
    first, second = err.splitlines()
    assert first.startswith(f"freqops: skipped {folder}/1/empty.jpg: ")
    assert second.startswith(f"freqops: skipped {broken}: ")
    assert ChannelStatistics.load(output).count == 69 * 9


def test_fail_also_fails_for_what_was_skipped_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw(tmp_path / "pictures", 70)
    (folder / "0" / "000.png").write_bytes(b"")
    output = tmp_path / "stats.json"

    def stop(done: int, broken: list[tuple[str, str]]) -> None:
        if done > LEAST:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(find_pictures([folder]), output, Crops(28, 24), ALONE, step=stop)
    command = ["stats", str(folder), "-o", str(output), *SMALL]
    assert main([*command, "--broken", "fail"]) == 2
    assert "000.png: it is empty" in capsys.readouterr().err
    assert main(command) == 0
    assert "69 pictures, 621 coefficients of each channel, 1 broken" in capsys.readouterr().out


def test_no_picture_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"none")
    output = tmp_path / "stats.json"
    assert main(["stats", str(folder), "-o", str(output), *SMALL]) == 2
    text = capsys.readouterr().err
    assert f"got 0: 1 cannot be read, the first of them {folder}/a.png: cannot identify" in text
    assert list(tmp_path.iterdir()) == [folder]


def test_disk_full(
    pictures: Path,
    whole: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "stats.json"
    output.write_text("old")
    command = ["stats", str(pictures), "-o", str(output), *SMALL]

    def full(self: ChannelStatistics, path: Path) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ChannelStatistics, "save", full)
        assert main(command) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [partial(output).name, "stats.json"]
    start = time.monotonic()
    assert main(command) == 0  # all is measured already
    assert time.monotonic() - start < 5
    assert output.read_bytes() == whole


# Arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "DIR must be a folder of pictures, found none at 'nowhere'"),
        (["empty"], "empty must hold pictures, found none in it"),
        (["pictures", "--from-jpeg", "--chroma", "dctnet"], "--chroma and --rounding must be left"),
        (["pictures", "--view", "eval", "--crop", "24", "--resize", "23"],
         "resize must be at least the crop, 24, got 23"),
    ],
)  # fmt: skip
def test_wrong_arguments(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    draw(Path("pictures"), 1)
    assert main(["stats", *arguments, "-o", "stats.json", "--workers", "0"]) == 2
    assert words in capsys.readouterr().err
    assert not Path("stats.json").exists()


def test_the_output_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw(tmp_path / "pictures", 1)
    assert main(["stats", str(folder), "-o", str(tmp_path), *SMALL]) == 2
    assert f"output must be a file, got the folder {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Crops(8, 8, view="val"), "view must be one of 'train', 'eval', got 'val'"),
        (lambda: Crops(8, 8, chroma="grey"), "chroma must be one of "),
        (lambda: Crops(8, 8, rounding="up"), "rounding must be one of "),
        (lambda: Crops(8, 8, from_jpeg=True, rounding="jpeg"), "with from_jpeg: files have"),
    ],
)
def test_wrong_crops(make: Callable[[], Crops], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["stats", "--help"])
    text = capsys.readouterr().out
    assert "torchrun" in text and "--from-jpeg" in text and "exit code" in text
