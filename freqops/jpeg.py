"""JPEG files to DCT coefficients as they are stored: no inverse DCT, no pixels, no forward DCT."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from freqops._arguments import describe, integer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from freqops._arguments import Channels
    from freqops._reference_jpeg import Scale

    Source: TypeAlias = (
        str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[np.uint8] | Tensor
    )

__all__ = [
    "MAX_PIXELS",
    "JPEGCoefficients",
    "UnsupportedJPEG",
    "read_coefficients",
    "read_many",
]

#: Width times height above which a file is refused, as Pillow does: a header of a few bytes can
#: claim 65500 x 65500 pixels.
MAX_PIXELS = 178_956_970

# The end of errors about damaged files.
TOLERANT = " (tolerant=True takes what can be decoded)"

_FOLDER = Path(__file__).parent

_SOURCES = "a path, bytes, a buffer of bytes or a uint8 tensor"

# Pictures that are read ahead of the one asked for, for each thread.
_AHEAD = 2


class UnsupportedJPEG(ValueError):
    """A sound JPEG file of a kind that is not read; the message names the kind.

    CMYK, YCCK and RGB, 2 components, 12 bits, lossless and hierarchical coding, and sampling
    factors other than 4:4:4, 4:2:2, 4:4:0, 4:2:0, 4:1:1 and gray. `freqops.data.read_image` decodes
    CMYK, YCCK, RGB and other sampling factors to pixels, and the message says so.
    """


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class JPEGCoefficients:
    """The coefficients of one JPEG file, block after block.

    With by = ceil(height / 8), bx = ceil(width / 8), and chroma of fv x fh pixels a sample (4:4:4:
    1 x 1, 4:2:2: 1 x 2, 4:4:0: 2 x 1, 4:2:0: 2 x 2, 4:1:1: 1 x 4):

    Attributes:
        y: int16 (by, bx, 64); [a, b, v * 8 + u] is the coefficient of vertical frequency v and
            horizontal frequency u in block (a, b) of Y - 128. The last dimension is contiguous, the
            others may be strided: the decoder writes whole MCUs, of which this is a view.
        cb, cr: int16 (ceil(by / fv), ceil(bx / fh), 64), likewise, of Cb - 128 and Cr - 128; None
            for gray.
        tables: int32 (3, 64), gray (1, 64): the quantisation steps of Y, Cb and Cr, [v * 8 + u].
            coefficient = stored value * step, in the units of `freqops.block_dct`. They are told
            of dequantized values too, whose coefficients would be multiplied twice by them.
        subsampling: "4:4:4", "4:2:2", "4:4:0", "4:2:0", "4:1:1" or "gray".
        height, width: of the picture, in pixels.
        quantized: True where the values are those stored; False where they are multiplied by the
            steps already, and saturated to int16: `freqops.jpeg_gather` of these takes
            tables=None, which ``gather`` passes by itself.
        orientation: how to turn the picture upright, 1 to 8 as in EXIF; 1 where the file has none
            or an invalid one.
        progressive: whether the file is coded in scans of rising accuracy.
        damage: what is missing or was wrong, in libjpeg-turbo's words, where tolerant=True took
            the file all the same; empty for a sound file.
    """

    y: Tensor
    cb: Tensor | None
    cr: Tensor | None
    tables: Tensor
    subsampling: str
    height: int
    width: int
    quantized: bool = True
    orientation: int = 1
    progressive: bool = False
    damage: str = ""

    def __repr__(self) -> str:
        facts = [f"{self.height} x {self.width}", self.subsampling]
        facts.append("quantized" if self.quantized else "dequantized")
        facts += ["progressive"] if self.progressive else []
        facts += [f"orientation {self.orientation}"] if self.orientation != 1 else []
        facts += ["damaged"] if self.damage else []
        return f"{type(self).__name__}({', '.join(facts)})"

    def upright(self) -> JPEGCoefficients:
        """The picture with its EXIF orientation applied, exactly and without decoding.

        Rows and columns exchanged: X'[a, b][v, u] = X[b, a][u, v], of the tables too. Mirrored left
        to right: X'[a, b][v, u] = (-1)^u X[a, B - 1 - b][v, u]; top to bottom likewise.

        Blocks cannot be shifted by less than their size, so a mirrored axis begins with whole
        blocks: where its length is no multiple of 8 f, with f pixels of luma to one of chroma along
        it, what lies beyond the last multiple is cut off (it would come first), as by jpegtran
        -trim. Axes that are not mirrored keep their last, incomplete blocks.

        Returns:
            A picture of orientation 1, the same where it has it already. height and width change
            places where rows and columns do, and lose what is cut off; 4:2:2 and 4:4:0 change
            places too. -32768, which has no opposite in int16, is mirrored to 32767.

        Raises:
            UnsupportedJPEG: rows and columns of 4:1:1 exchanged are no kind of JPEGCoefficients; or
                an axis to mirror is shorter than 8 f.

        Example:
            >>> import torch
            >>> y, tables = torch.zeros(1, 2, 64, dtype=torch.int16), torch.ones(1, 64).int()
            >>> y[0, 0, :2] = torch.tensor([5, 3])
            >>> c = JPEGCoefficients(y, None, None, tables, "gray", 8, 16, orientation=2)
            >>> c.upright().y[0, :, :2].tolist()
            [[0, 0], [5, -3]]
        """
        from freqops._jpeg_picture import upright

        return upright(self)

    def gather(
        self,
        channels: Channels = None,
        *,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        scale: Scale = 8,
        crop: tuple[int, int, int, int] | None = None,
        flip: bool = False,
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format | None = None,
    ) -> Tensor:
        """`freqops.jpeg_gather` of this picture as it is stored (see ``upright``).

        With the tables where the values are quantized, with tables=None where they are not.

        Args:
            channels, mean, std, scale, flip, dtype, memory_format: as in `jpeg_gather`.
            crop: (top, left, rows, columns) in blocks of the scaled picture. None: those that the
                picture's pixels reach, ceil(ceil(height k / 8) / 8) by ceil(ceil(width k / 8) / 8),
                not those that only the padding of its last blocks does.

        Returns:
            (C, rows, columns).

        Raises:
            TypeError, ValueError: those of `jpeg_gather`.

        Example:
            >>> import torch
            >>> y, tables = torch.zeros(2, 3, 64, dtype=torch.int16), torch.ones(1, 64).int()
            >>> c = JPEGCoefficients(y, None, None, tables, "gray", 12, 17)
            >>> c.gather([0, 1]).shape, c.gather([0, 1], scale=4).shape
            (torch.Size([2, 2, 3]), torch.Size([2, 1, 2]))
        """
        from freqops._jpeg_picture import gather

        return gather(
            self,
            channels,
            mean=mean,
            std=std,
            scale=scale,
            crop=crop,
            flip=flip,
            dtype=dtype,
            memory_format=memory_format,
        )


def read_coefficients(
    source: Source,
    *,
    dequantize: bool = False,
    tolerant: bool = False,
    max_pixels: int | None = MAX_PIXELS,
) -> JPEGCoefficients:
    """Reads the DCT coefficients of a JPEG file as they are stored, without decoding to pixels.

    Baseline, extended and progressive files with Huffman or arithmetic coding, 8 bits a sample, of
    Y, Cb and Cr or of gray. The Python lock is released, so threads read side by side. What a
    decoder would warn of and show as gray is an error: blocks, scans or the end marker are missing,
    bits are damaged. Bits that are wrong and decode all the same cannot be noticed, nor, with
    arithmetic coding, a scan that ends too early in a file that has its end marker.

    Args:
        source: path of a file, or its bytes: bytes, bytearray, memoryview, or any C-contiguous
            buffer of single bytes, such as a uint8 NumPy array or a one-dimensional uint8 tensor on
            the CPU. It must not change while it is read.
        dequantize: whether to multiply the values by the quantisation steps; the products saturate
            to int16. Give `freqops.jpeg_gather` tables=None with such values, not the tables of the
            result, which would multiply them again; ``JPEGCoefficients.gather`` does so by itself.
        tolerant: of a damaged or truncated file give what could be decoded, and zeros for the rest,
            instead of raising; blocks beside the damage may be wrong. The result's ``damage`` says
            what was wrong. A file with a broken header, or of which nothing can be decoded, raises
            all the same.
        max_pixels: width times height above which the file is refused before memory is taken; None
            means no limit.

    Returns:
        JPEGCoefficients. Its tensors are the memory that the decoder wrote, int16 on the CPU.

    Raises:
        TypeError: an argument is of a type that is not named above.
        ValueError: the bytes are no JPEG file, or a damaged or truncated one; the picture is larger
            than max_pixels; it has more scans than encoders write: 500, of large ones down to 32;
            the path is empty or has a NUL byte.
        UnsupportedJPEG: the file is of a kind that is not read; a ValueError too.
        OSError: the file cannot be opened.
        MemoryError: there is no memory for the coefficients.
        ImportError: freqops was built without its JPEG reader.

    Source:
        ITU-T T.81: zigzag order A.3.6, DCT A.3.3, sampling A.1.1, progressive coding G; Adobe's
        APP14 and JFIF 1.02 for colours; EXIF 2.3 for the orientation.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (30, 20), (130, 130, 130)).save(file, "JPEG", subsampling="4:2:0")
        >>> picture = read_coefficients(file.getvalue())
        >>> picture
        JPEGCoefficients(20 x 30, 4:2:0, quantized)
        >>> picture.y.shape, picture.cb.shape
        (torch.Size([3, 4, 64]), torch.Size([2, 2, 64]))
        >>> (picture.y * picture.tables[0])[0, 0, 0].item()  # 8 (130 - 128)
        16
        >>> values = read_coefficients(file.getvalue(), dequantize=True)
        >>> values.y[0, 0, 0].item(), values.gather([0])[0, 0, 0].item()
        (16, 16.0)
    """
    options = _Options.checked("read_coefficients", dequantize, tolerant, max_pixels)
    _need_reader("read_coefficients")
    return _read(source, "", options)


def read_many(
    sources: Iterable[Source],
    *,
    threads: int | None = None,
    dequantize: bool = False,
    tolerant: bool = False,
    max_pixels: int | None = MAX_PIXELS,
) -> Iterator[JPEGCoefficients]:
    """Reads many JPEG files in threads; results come in the order of the sources.

    Sources are taken from the iterable only as they are needed: at most two for each thread are
    read ahead of the result that is asked for. Closing the iterator, an error or Ctrl-C stops the
    threads after the files that they are reading. After an error the iterator is finished.

    Args:
        sources: what `read_coefficients` takes, one for each picture.
        threads: how many read at a time; None means one for each processor that this process may
            use.
        dequantize, tolerant, max_pixels: as in `read_coefficients`.

    Returns:
        An iterator over JPEGCoefficients.

    Raises:
        What `read_coefficients` raises, where the source's turn comes; the message has its number.
        TypeError: sources is one file, or no iterable; threads is no integer.
        ValueError: threads is less than 1.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> files = [io.BytesIO() for _ in range(3)]
        >>> for size, file in enumerate(files, 1):
        ...     Image.new("L", (8 * size, 8)).save(file, "JPEG")
        >>> [p.y.shape[1] for p in read_many((file.getvalue() for file in files), threads=2)]
        [1, 2, 3]
    """
    _check_sources(sources)
    options = _Options.checked("read_many", dequantize, tolerant, max_pixels)
    threads = _count("read_many", "threads", threads)
    if threads is None:
        threads = _processors()
    _need_reader("read_many")
    return _results(iter(sources), threads, options)


def _check_sources(sources: object) -> None:
    """Refuses one file: a path is iterable by characters, a file by its bytes."""
    got, hint = describe(sources), ""
    if isinstance(sources, (str, os.PathLike)):
        got, hint = repr(os.fspath(sources)), " (for one file: [path])"
    elif isinstance(sources, (bytes, bytearray, memoryview)):
        got, hint = type(sources).__name__, " (for one file: [data])"
    elif str(getattr(sources, "dtype", "")).endswith("uint8") and len(sources.shape) == 1:  # type: ignore[attr-defined]
        hint = " of bytes (for one file: [data])"
    elif hasattr(type(sources), "__iter__") or hasattr(type(sources), "__getitem__"):
        return
    raise TypeError(f"read_many: sources must be an iterable of paths or bytes, got {got}{hint}")


def _count(call: str, name: str, value: object) -> int | None:
    """An integer of at least 1, or None."""
    if value is None:
        return None
    try:
        number = integer(call, name, value)
    except TypeError:
        words = f"{call}: {name} must be an integer or None, got {describe(value)}"
        raise TypeError(words) from None
    if number < 1:
        raise ValueError(f"{call}: {name} must be at least 1, got {number}")
    return number


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: those that the process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _results(
    sources: Iterator[Source], threads: int, options: _Options
) -> Iterator[JPEGCoefficients]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="freqops-jpeg")
    waiting: deque[Future[JPEGCoefficients]] = deque()
    numbers = itertools.count()
    try:
        while True:
            while len(waiting) < _AHEAD * threads:
                try:
                    source = next(sources)
                except StopIteration:
                    break
                except Exception as error:  # of the caller's iterable: raised in its turn
                    waiting.append(Future())
                    waiting[-1].set_exception(error)
                    break
                waiting.append(pool.submit(_read, source, f" {next(numbers)}", options))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclasses.dataclass(frozen=True)
class _Options:
    call: str
    dequantize: bool
    tolerant: bool
    max_pixels: int  # 0: no limit

    @classmethod
    def checked(
        cls, call: str, dequantize: bool, tolerant: bool, max_pixels: int | None
    ) -> _Options:
        for name, value in (("dequantize", dequantize), ("tolerant", tolerant)):
            if not isinstance(value, bool):
                raise TypeError(f"{call}: {name} must be True or False, got {value!r}")
        limit = _count(call, "max_pixels", max_pixels)
        return cls(call, dequantize, tolerant, 0 if limit is None else min(limit, 2**63))


def _read(source: Source, number: str, options: _Options) -> JPEGCoefficients:
    from freqops import _jpeg

    call = options.call
    if isinstance(source, (str, os.PathLike)):
        _check_path(f"{call}: source{number}", source)
        name = f"{call}: source{number} {os.fspath(source)!r}"
        try:
            data = memoryview(Path(source).read_bytes())
        except OSError as error:
            if not number:
                raise
            words = f"{call}: source{number}: {error.strerror}"
            raise type(error)(error.errno, words, error.filename) from None
    else:
        data = _bytes(f"{call}: source{number}", source)
        name = f"{call}: source{number} of {len(data)} bytes"
    try:
        planes, tables, subsampling, height, width, orientation, progressive, damage = _jpeg.read(
            data, options.dequantize, options.tolerant, options.max_pixels
        )
    except _jpeg.Unsupported as error:
        raise UnsupportedJPEG(f"{name}: {error}{_way_on(str(error))}") from None
    except _jpeg.Damaged as error:
        raise ValueError(f"{name}: {error}{TOLERANT}") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    except MemoryError as error:
        raise MemoryError(f"{name}: {error}") from None
    y, *chroma = (torch.from_numpy(plane) for plane in planes)
    cb, cr = chroma or (None, None)
    return JPEGCoefficients(
        y,
        cb,
        cr,
        torch.from_numpy(tables),
        subsampling,
        height,
        width,
        not options.dequantize,
        orientation,
        progressive,
        damage,
    )


def _way_on(reason: str) -> str:
    """What decodes a kind that is not read here. Nothing for 2 components, 12 bits, lossless and
    hierarchical coding: whether Pillow makes a picture of these depends on how it is built."""
    if reason.startswith(("CMYK ", "YCCK ", "RGB ", "JPEG with the sampling factors ")):
        return " (freqops.data.read_image decodes it)"
    return ""


def _check_path(name: str, source: str | os.PathLike[str]) -> None:
    """Path("") would be the folder that the process is in."""
    path = os.fspath(source)
    if not path:
        raise ValueError(f"{name} must be {_SOURCES}, got an empty path")
    if "\0" in path:
        raise ValueError(
            f"{name} must be {_SOURCES}, got a {type(source).__name__} with a NUL byte: "
            "bytes of a file must not be decoded to str"
        )


def _bytes(name: str, source: Source) -> memoryview:
    """The memory of a source that is no path, as bytes."""
    if isinstance(source, Tensor):
        if source.dtype != torch.uint8 or source.dim() != 1 or source.device.type != "cpu":
            raise TypeError(
                f"{name} must be a one-dimensional uint8 tensor on the CPU, got {source.dtype} of "
                f"shape {tuple(source.shape)} on {source.device}"
            )
        if not source.is_contiguous():
            raise ValueError(f"{name} must be contiguous, got a tensor of stride {source.stride()}")
        view = memoryview(source.detach().numpy())  # type: ignore[arg-type]
    else:
        try:
            view = memoryview(source)  # type: ignore[arg-type]
        except TypeError:
            raise TypeError(f"{name} must be {_SOURCES}, got {type(source).__name__}") from None
    if view.itemsize != 1:
        raise TypeError(f"{name} must hold bytes, got items of {view.itemsize} bytes")
    if not view.c_contiguous:
        raise ValueError(f"{name} must be contiguous, got a buffer of strides {view.strides}")
    return view.cast("B") if view.nbytes else memoryview(b"")


def _need_reader(call: str) -> None:
    """Raises ImportError where the compiled module is missing. Here and not when freqops is
    imported: who reads no JPEG files needs none."""
    try:
        from freqops import _jpeg  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{call}: freqops has no JPEG reader: {missing() or error}. Install libjpeg-turbo with "
            "its headers (Debian: libjpeg62-turbo-dev, Ubuntu: libjpeg-turbo8-dev, Fedora: "
            "libjpeg-turbo-devel, Homebrew: jpeg-turbo) and pybind11 (pip install pybind11), then "
            "build freqops again: pip install --no-build-isolation ."
        ) from error


def missing() -> str:
    """Why there is no JPEG reader, as the build noted it; empty where there is one."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    if (_FOLDER / f"_jpeg{suffix}").exists():
        return ""
    with contextlib.suppress(OSError):
        build = json.loads((_FOLDER / "_build.json").read_text())
        if build.get("jpeg_missing"):
            return str(build["jpeg_missing"])
    return f"_jpeg{suffix} is missing: it was built for another Python, or not at all"
