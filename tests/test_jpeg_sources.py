"""freqops.jpeg around the decoder: sources, options, threads, and where it is not built."""

from __future__ import annotations

import errno
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from jpeg_files import PHOTOGRAPHS, by_pillow, encoded, photograph, planes

from freqops import jpeg
from freqops.jpeg import read_coefficients, read_many

# --- Sources -------------------------------------------------------------------------------------


def test_sources(tmp_path: Path) -> None:
    data = encoded(photograph())
    path = tmp_path / "file.jpg"
    path.write_bytes(data)
    array = np.frombuffer(data, np.uint8)
    want = read_coefficients(data)
    for source in (
        path,
        str(path),
        bytearray(data),
        memoryview(data),
        memoryview(b"x" + data)[1:],
        array,
        torch.tensor(list(data), dtype=torch.uint8),
        torch.tensor([0, *data], dtype=torch.uint8)[1:],
        array.reshape(1, -1),
    ):
        got = read_coefficients(source)
        assert torch.equal(got.y, want.y) and torch.equal(got.cr, want.cr)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (np.zeros((4, 4), np.uint8)[:, ::2], ValueError, "must be contiguous, got a buffer of str"),
        (torch.zeros(8, dtype=torch.uint8)[::2], ValueError, r"must be contiguous, .* \(2,\)"),
        (torch.zeros(8), TypeError, "must be a one-dimensional uint8 tensor on the CPU, got torch"),
        (torch.zeros(2, 2, dtype=torch.uint8), TypeError, r"one-dimensional .* shape \(2, 2\)"),
        (np.zeros(4, np.int16), TypeError, "must hold bytes, got items of 2 bytes"),
        (7, TypeError, "must be a path, bytes, a buffer of bytes or a uint8 tensor, got int"),
        (None, TypeError, "got NoneType"),
        ("", ValueError, "must be a path, bytes, .* tensor, got an empty path$"),
        (
            "\xff\xd8\xff\xe0\0\x10JFIF",
            ValueError,
            "must be a path, bytes, .* tensor, got a str with "
            "a NUL byte: bytes of a file must not be decoded to str$",
        ),
        (PurePosixPath("a\0b"), ValueError, "got a PurePosixPath with a NUL byte"),
    ],
    ids=ascii,
)
def test_sources_refused(source: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^read_coefficients: source .*{words}"):
        read_coefficients(source)
    with pytest.raises(error, match=f"^read_many: source 0 .*{words}"):
        next(read_many([source]))


def test_a_missing_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        read_coefficients(tmp_path / "none.jpg")


def test_a_folder_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as raised:
        read_coefficients(tmp_path)
    assert repr(str(tmp_path)) in str(raised.value)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(encoded(photograph())[:-2])
    with pytest.raises(ValueError, match=r"^read_coefficients: source '.*broken.jpg': Premature"):
        read_coefficients(path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_pixels": 0}, ValueError, "max_pixels must be at least 1, got 0"),
        ({"max_pixels": 1.5}, TypeError, "max_pixels must be an integer or None, got 1.5"),
        ({"max_pixels": True}, TypeError, "max_pixels must be an integer or None, got True"),
        ({"max_pixels": "9"}, TypeError, "max_pixels must be an integer or None, got '9'"),
        ({"max_pixels": np.int64(-1)}, ValueError, "max_pixels must be at least 1, got -1"),
        ({"dequantize": 1}, TypeError, "dequantize must be True or False, got 1"),
        ({"tolerant": None}, TypeError, "tolerant must be True or False, got None"),
    ],
)
def test_options_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    for function in (read_coefficients, read_many):
        with pytest.raises(error, match=f"^{function.__name__}: {words}"):
            function([], **options)


@pytest.mark.parametrize("one", [1, np.int64(1), np.uint8(1), torch.tensor(1)], ids=str)
def test_integers_of_any_kind(one: Any) -> None:
    data = encoded(photograph(height=8, width=8))
    assert read_coefficients(data, max_pixels=64 * one).width == 8
    assert [p.width for p in read_many([data], threads=one, max_pixels=64 * one)] == [8]
    with pytest.raises(ValueError, match="64 pixels"):
        read_coefficients(data, max_pixels=63 * one)


# --- Threads -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> bytes:
    return encoded(np.tile(photograph("coffee.png", 400, 600), (8, 6, 1)))


def test_python_goes_on_while_a_file_is_read(large: bytes) -> None:
    """A thread that sleeps for a millisecond at a time wakes within one call of the reader."""
    from freqops import _jpeg

    woken: list[float] = []
    done = threading.Event()

    def sleep() -> None:
        while not done.is_set():
            time.sleep(0.001)
            woken.append(time.perf_counter())

    def woken_in_one_read() -> int:
        begun = time.perf_counter()
        _jpeg.read(memoryview(large), True, False, 0)
        ended = time.perf_counter()
        return sum(begun < moment < ended for moment in woken)

    thread = threading.Thread(target=sleep)
    thread.start()
    most = max(woken_in_one_read() for _ in range(5))
    done.set()
    thread.join()
    assert most >= 4  # with the lock held: once before and once after


def test_a_buffer_cannot_be_resized_while_it_is_read(large: bytes) -> None:
    source = bytearray(large)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_coefficients, source)
        refused = False
        while not reading.done():
            try:
                source.append(0)
                source.pop()
            except BufferError:
                refused = True
        assert refused
        assert reading.result().height == 3200


def test_many_threads_read_alike() -> None:
    files = [encoded(photograph(name), quality) for name in PHOTOGRAPHS for quality in (20, 90)]
    files += [by_pillow(photograph(name), progressive=True) for name in PHOTOGRAPHS]
    want = [read_coefficients(file) for file in files]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(read_coefficients, files * 10))
    for a, b in zip(want * 10, got, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(planes(a), planes(b), strict=True))


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_read_many(threads: int | None) -> None:
    files = [encoded(photograph(height=8, width=8 * n), 90, "gray") for n in range(1, 12)]
    results = list(read_many(iter(files), threads=threads, dequantize=True))
    assert [r.width for r in results] == [8 * n for n in range(1, 12)]
    assert not any(r.quantized for r in results)
    assert list(read_many([])) == []


def test_read_many_takes_few_sources_ahead() -> None:
    taken = 0

    def sources() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield encoded(photograph(height=8, width=8))

    pictures = read_many(sources(), threads=3)
    assert taken == 0
    for count in range(1, 20):
        next(pictures)
        assert count <= taken <= count + 6
    pictures.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("freqops-jpeg")]


def test_read_many_raises_in_its_turn() -> None:
    good = encoded(photograph())
    pictures = read_many([good, good, good[:-2], good], threads=2)
    assert next(pictures).height == next(pictures).height == 83
    with pytest.raises(ValueError, match=r"^read_many: source 2 of \d+ bytes: Premature end"):
        next(pictures)
    assert not [t for t in threading.enumerate() if t.name.startswith("freqops-jpeg")]
    assert list(pictures) == []


def test_read_many_numbers_files_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "file.jpg"
    path.write_bytes(encoded(photograph()))
    missing = tmp_path / "none.jpg"
    for wrong, error, number, words in (
        (missing, FileNotFoundError, errno.ENOENT, "No such file or directory"),
        (tmp_path, IsADirectoryError, errno.EISDIR, "Is a directory"),
    ):
        pictures = read_many([path, str(wrong)])
        assert next(pictures).height == 83
        with pytest.raises(error) as raised:
            next(pictures)
        said = f"[Errno {number}] read_many: source 1: {words}: {str(wrong)!r}"
        assert str(raised.value) == said
        assert str(pickle.loads(pickle.dumps(raised.value))) == said  # as workers pass it on
        assert (raised.value.errno, raised.value.filename) == (number, str(wrong))


@pytest.mark.parametrize(
    ("sources", "got"),
    [
        ("photos/1.jpg", "'photos/1.jpg' (for one file: [path])"),
        (Path("photos/1.jpg"), "'photos/1.jpg' (for one file: [path])"),
        (b"\xff\xd8", "bytes (for one file: [data])"),
        (bytearray(2), "bytearray (for one file: [data])"),
        (memoryview(b"\xff\xd8"), "memoryview (for one file: [data])"),
        (np.zeros(2, np.uint8), "a ndarray of bytes (for one file: [data])"),
        (torch.zeros(2, dtype=torch.uint8), "a Tensor of bytes (for one file: [data])"),
        (None, "None"),
        (7, "7"),
        (object(), "an object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_file_is_no_list_of_files(sources: Any, got: str) -> None:
    with pytest.raises(TypeError) as raised:
        read_many(sources)
    words = "read_many: sources must be an iterable of paths or bytes, got "
    assert str(raised.value) == words + got


def test_read_many_takes_what_can_be_iterated(tmp_path: Path) -> None:
    class Files:
        """A data set as it often is: items by number, an IndexError after the last."""

        def __getitem__(self, i: int) -> bytes:
            return [data, data][i]

    data = encoded(photograph(height=8, width=8))
    path = tmp_path / "file.jpg"
    path.write_bytes(data)
    rows = np.frombuffer(data * 2, np.uint8).reshape(2, -1)
    for sources in (
        Files(),
        rows,
        torch.tensor(rows),
        np.array([str(path)] * 2),
        {path, str(path)},
    ):
        assert [p.width for p in read_many(sources)] == [8, 8]


def test_an_error_of_the_sources_comes_in_its_turn() -> None:
    def sources() -> Iterator[bytes]:
        yield encoded(photograph())
        raise RuntimeError("no more files")

    pictures = read_many(sources())
    assert next(pictures).height == 83
    with pytest.raises(RuntimeError, match="no more files"):
        next(pictures)


def test_ctrl_c_stops_the_threads() -> None:
    def sources() -> Iterator[bytes]:
        yield encoded(photograph())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(read_many(sources(), threads=2))
    assert not [t for t in threading.enumerate() if t.name.startswith("freqops-jpeg")]


@pytest.mark.parametrize(
    ("threads", "error"),
    [(0, ValueError), (np.int64(0), ValueError), (1.5, TypeError), (True, TypeError)],
)
def test_threads_refused(threads: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^read_many: threads must be"):
        read_many([], threads=threads)


# --- The module ----------------------------------------------------------------------------------


def test_importing_freqops_loads_neither_reader_nor_pillow() -> None:
    code = "import sys, freqops; assert not {'freqops._jpeg', 'PIL'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_compiled_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "freqops._jpeg", None)
    monkeypatch.delattr("freqops._jpeg", raising=False)
    monkeypatch.setattr(jpeg, "missing", lambda: "FREQOPS_JPEG was off when freqops was built")
    words = (
        "^{}: freqops has no JPEG reader: FREQOPS_JPEG was off when freqops was built. "
        "Install libjpeg-turbo .*libjpeg62-turbo-dev.*libjpeg-turbo-devel.*jpeg-turbo.* pybind11"
    )
    with pytest.raises(ImportError, match=words.format("read_coefficients")):
        read_coefficients(b"")
    with pytest.raises(ImportError, match=words.format("read_many")):
        read_many([])
