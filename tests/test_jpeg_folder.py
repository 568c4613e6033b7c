"""JPEGFolder and Collate: fallbacks, counts, workers, sizes, errors."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest
import torch
from jpeg_pictures import jpeg, smooth
from torch import Tensor
from torch.utils.data import DataLoader

from freqops.data import Collate, JPEGFolder, JPEGTransform, read_image
from freqops.jpeg import JPEGCoefficients, UnsupportedJPEG, read_coefficients


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes: JPEG files of several kinds, a PNG named .jpg, a CMYK file, one too small."""
    files = {
        "cat/a.jpg": jpeg(smooth(90, 120, 1)),
        "cat/b.JPEG": jpeg(smooth(120, 90, 2), "4:2:0", 6),
        "cat/deep/c.jpg": jpeg(smooth(101, 77, 3).convert("L")),
        "cat/notes.txt": b"no picture",
        "cat/.hidden.jpg": b"",
        "cat/.deep/x.jpg": b"",
        "dog/png.jpg": b"",
        "dog/cmyk.jpg": b"",
        "dog/d.jpg": jpeg(smooth(80, 80, 4), "4:2:2"),
        "emu/small.jpg": jpeg(smooth(12, 11, 5)),
        ".git/x.jpg": b"",
    }
    for name, data in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    smooth(70, 75, 6).save(tmp_path / "root/dog/png.jpg", "PNG")
    smooth(70, 75, 7).convert("CMYK").save(tmp_path / "root/dog/cmyk.jpg", "JPEG", quality=95)
    return tmp_path / "root"


OTHERS = 2
"""Files of `root` that are no JPEG files of a kind that is read."""


class Seen:
    """A transform that tells what it was given."""

    def __call__(self, picture: JPEGCoefficients | Tensor) -> Tensor:
        return torch.full((1, 1, 1), float(isinstance(picture, JPEGCoefficients)))


class TestFolder:
    def test_the_layout_is_torchvisions(self, root: Path) -> None:
        folder = JPEGFolder(root, Seen())
        assert folder.classes == ["cat", "dog", "emu"]
        assert folder.class_to_idx == {"cat": 0, "dog": 1, "emu": 2}
        names = [str(Path(path).relative_to(root)) for path, _ in folder.samples]
        assert names == [
            "cat/a.jpg",
            "cat/b.JPEG",
            "cat/deep/c.jpg",
            "dog/cmyk.jpg",
            "dog/d.jpg",
            "dog/png.jpg",
            "emu/small.jpg",
        ]
        assert folder.targets == [0, 0, 0, 1, 1, 1, 2]
        assert len(folder) == 7
        assert "7 pictures, 3 classes" in repr(folder)
        try:
            from torchvision.datasets import ImageFolder
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"torchvision cannot be imported: {error}")
        (root / ".git/x.jpg").unlink()
        (root / ".git").rmdir()
        (root / "cat/.hidden.jpg").unlink()
        (root / "cat/.deep/x.jpg").unlink()
        theirs = ImageFolder(root)
        assert folder.samples == theirs.samples
        assert folder.class_to_idx == theirs.class_to_idx

    def test_what_is_no_jpeg_of_ours_is_decoded_and_counted(self, root: Path) -> None:
        transform = JPEGTransform(24)
        folder = JPEGFolder(root, transform)
        for i, (path, target) in enumerate(folder.samples):
            before = folder.decoded
            x, label = folder[i]
            assert label == target
            other = Path(path).name in ("cmyk.jpg", "png.jpg")
            assert folder.decoded - before == other
            want = transform(read_image(path) if other else read_coefficients(path))
            assert torch.equal(x, want)
        assert folder.decoded == OTHERS
        with pytest.raises(IndexError):
            folder[7]

    def test_pictures_too_small_for_the_transform_are_decoded(self, root: Path) -> None:
        folder = JPEGFolder(root, JPEGTransform(24, preprocess=(64, 64)))
        assert folder[6][0].shape == (24, 8, 8)
        assert folder.decoded == 1

    def test_decoding_can_be_refused(self, root: Path) -> None:
        folder = JPEGFolder(root, JPEGTransform(24, preprocess=(64, 64)), decode_others=False)
        with pytest.raises(UnsupportedJPEG, match=r"cmyk.jpg.*CMYK.*decode_others=True"):
            folder[3]
        with pytest.raises(
            ValueError, match=r"png.jpg': not a JPEG file: .*PNG.*\(decode_others=True"
        ):
            folder[5]
        with pytest.raises(UnsupportedJPEG, match=r"small.jpg': .*4 times at most"):
            folder[6]
        assert folder.decoded == 0

    def test_broken_files_raise_with_their_path(self, root: Path) -> None:
        whole = (root / "cat/a.jpg").read_bytes()
        (root / "cat/a.jpg").write_bytes(whole[: len(whole) // 2])
        (root / "dog/d.jpg").write_bytes(b"nothing of the kind")
        folder = JPEGFolder(root, JPEGTransform(24))
        for i, words in (
            (0, r"cat/a.jpg': .*Premature end.* \(tolerant=True takes what can be decoded\)$"),
            (4, r"dog/d.jpg': not a JPEG file: it looks like text$"),
        ):
            with pytest.raises(ValueError, match=words):
                folder[i]
        assert folder.decoded == folder.damaged == 0
        with pytest.raises(ValueError, match=r"cat/b.JPEG.*pixels"):
            JPEGFolder(root, JPEGTransform(24), max_pixels=10000)[1]

    def test_damaged_files_are_counted_where_tolerated(self, root: Path) -> None:
        whole = (root / "cat/a.jpg").read_bytes()
        (root / "cat/a.jpg").write_bytes(whole[: len(whole) // 2])
        small = (root / "emu/small.jpg").read_bytes()
        (root / "emu/small.jpg").write_bytes(small[:-2] + b"leftover" + small[-2:])
        folder = JPEGFolder(root, JPEGTransform(24), tolerant=True)
        assert folder[0][0].shape == (24, 12, 15)
        assert (folder.damaged, folder.decoded) == (1, 0)
        folder[1], folder[5]  # sound, and a PNG
        assert (folder.damaged, folder.decoded) == (1, 1)
        both = JPEGFolder(root, JPEGTransform(24, preprocess=(64, 64)), tolerant=True)
        assert both[6][0].shape == (24, 8, 8)
        assert (both.damaged, both.decoded) == (1, 1)

        def fails(picture: object) -> Tensor:
            raise KeyError("mean")

        failing = JPEGFolder(root, fails, tolerant=True)
        with pytest.raises(ValueError, match=r"a.jpg': KeyError: 'mean'$"):
            failing[0]
        assert failing.damaged == 0

    @pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than processors
    @pytest.mark.parametrize(
        ("start", "persistent"), [("fork", False), ("fork", True), ("spawn", True)]
    )
    def test_counts_of_all_workers_arrive(self, root: Path, start: str, persistent: bool) -> None:
        for i in range(12):
            smooth(70, 75, i).save(root / f"emu/{i}.png")
        whole = (root / "cat/a.jpg").read_bytes()
        (root / "cat/a.jpg").write_bytes(whole[: len(whole) // 2])
        folder = JPEGFolder(root, JPEGTransform(24), tolerant=True)
        loader = DataLoader(
            folder,
            batch_size=2,
            num_workers=3 if start == "fork" else 2,  # each imports torch anew
            collate_fn=Collate("pad"),
            multiprocessing_context=start,
            persistent_workers=persistent,
        )
        for epoch in range(1, 3):
            assert sum(len(labels) for _, labels in loader) == 19
            assert folder.decoded == epoch * (OTHERS + 12)
            assert folder.damaged == epoch
        folder[0], folder[5]
        assert folder.decoded == 2 * (OTHERS + 12) + 1
        assert folder.damaged == 3

    def test_copies_count_for_themselves_and_still_share(self, root: Path) -> None:
        folder = JPEGFolder(root, JPEGTransform(24))
        folder[5]
        for duplicate in (lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, copy.copy):
            other = duplicate(folder)
            assert other.samples == folder.samples
            assert other.decoded == 1
            loader = DataLoader(
                other,
                batch_size=7,
                num_workers=1,
                collate_fn=Collate(),
                multiprocessing_context="fork",
            )
            next(iter(loader))
            assert other.decoded == 1 + OTHERS
        assert folder.decoded == 1

    @pytest.mark.filterwarnings("ignore:This DataLoader will create")
    def test_batches_repeat(self, root: Path) -> None:
        def epoch(folder: JPEGFolder, workers: int) -> list[Tensor]:
            torch.manual_seed(3)
            loader = DataLoader(
                folder,
                batch_size=3,
                shuffle=True,
                num_workers=workers,
                collate_fn=Collate("crop"),
                multiprocessing_context="fork" if workers else None,
            )
            return [x for x, _ in loader]

        def same(a: list[Tensor], b: list[Tensor]) -> bool:
            return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

        train = JPEGFolder(root, JPEGTransform(24, preprocess=(None, 32), train=True))
        assert same(epoch(train, 2), epoch(train, 2))
        assert same(epoch(train, 0), epoch(train, 0))
        assert not same(epoch(train, 0), epoch(train, 2))  # else the draws would not be drawn
        plain = JPEGFolder(root, JPEGTransform(24))
        first = epoch(plain, 0)
        assert same(first, epoch(plain, 1))
        assert same(first, epoch(plain, 3))

    def test_errors_name_what_is_missing(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"root must be a folder, found none at .*nowhere"):
            JPEGFolder(tmp_path / "nowhere", Seen())
        with pytest.raises(ValueError, match="root must be a folder"):
            JPEGFolder(root / "cat/a.jpg", Seen())
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="root must hold a folder for each class, found none"):
            JPEGFolder(tmp_path / "empty", Seen())
        (root / "ant").mkdir()
        (root / "bee").mkdir()
        (root / "bee/notes.txt").touch()
        with pytest.raises(ValueError, match=r"found none in 2 of 5 in .*: ant, bee$"):
            JPEGFolder(root, Seen())
        smooth(16, 16).save(tmp_path / "empty/b.png")
        (tmp_path / "empty/a.jpg").touch()
        with pytest.raises(ValueError, match=r"found none in .*, but 2 pictures, such as a.jpg: p"):
            JPEGFolder(tmp_path / "empty", Seen())

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"transform": None}, TypeError, "a JPEGTransform(...) perhaps, got None"),
            ({"transform": JPEGTransform}, TypeError, "perhaps, got the class JPEGTransform"),
            ({"root": 3}, TypeError, "root must be a string or a path, got 3"),
            ({"root": b"photos"}, TypeError, "root must be a string or a path, got a bytes"),
            ({"tolerant": 1}, TypeError, "tolerant must be True or False, got 1"),
            ({"decode_others": "no"}, TypeError, "decode_others must be True or False, got 'no'"),
            ({"max_pixels": 0}, ValueError, "max_pixels must be at least 1, got 0"),
            ({"max_pixels": 1e6}, TypeError, "max_pixels must be an integer or None, got 1000000"),
        ],
    )
    def test_wrong_arguments(
        self, root: Path, arguments: dict[str, object], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=f"^JPEGFolder: .*{re.escape(message)}"):
            JPEGFolder(**({"root": root, "transform": Seen()} | arguments))  # type: ignore[arg-type]

    def test_errors_of_the_transform_name_the_file(self, root: Path) -> None:
        folder = JPEGFolder(root, JPEGTransform(24, preprocess=(None, 256)))
        for i in (0, 5):  # stored, decoded
            path = folder.samples[i][0]
            start = re.escape(f"JPEGFolder: {path!r}: a crop of 256 must fit into the picture")
            with pytest.raises(ValueError, match=f"^{start}"):
                folder[i]

        def fails(picture: object) -> Tensor:
            raise KeyError("mean")

        pixels = r" \(it had to be decoded: the transform got pixels, a uint8 tensor\)"
        for i, name, way in ((0, "cat/a.jpg", ""), (5, "png.jpg", pixels)):
            with pytest.raises(ValueError, match=f"{name}': KeyError: 'mean'{way}$") as caught:
                JPEGFolder(root, fails)[i]
            assert isinstance(caught.value.__cause__, KeyError)

    @pytest.mark.parametrize(
        ("name", "data", "reason"),
        [
            ("a.jpg", b"", "not a JPEG file: it is empty"),
            ("a.jpg", b"<!DOCTYPE html>", "not a JPEG file: it looks like text"),
            ("a.png", b"", "it is empty"),
            ("a.png", b"<!DOCTYPE html>", "cannot identify its format"),
        ],
    )
    def test_what_is_no_picture(self, tmp_path: Path, name: str, data: bytes, reason: str) -> None:
        path = tmp_path / "cat" / name
        path.parent.mkdir()
        path.write_bytes(data)
        with pytest.raises(ValueError, match="JPEGFolder: ") as caught:
            JPEGFolder(tmp_path, Seen())[0]
        assert str(caught.value) == f"JPEGFolder: {str(path)!r}: {reason}"
        with pytest.raises(ValueError, match="path must name") as caught:
            read_image(path)
        assert str(caught.value).endswith(f"{name}': {reason}")


class TestCollate:
    pictures = ((torch.ones(2, 5, 7), 3), (2 * torch.ones(2, 6, 4), 1))

    def test_pad(self) -> None:
        x, labels, sizes = Collate("pad", multiple=4, sizes=True)(self.pictures)  # type: ignore[misc]
        want = torch.zeros(2, 2, 8, 8)
        want[0, :, :5, :7] = 1
        want[1, :, :6, :4] = 2
        assert torch.equal(x, want)
        assert labels.dtype == torch.int64
        assert labels.tolist() == [3, 1]
        assert sizes.tolist() == [[5, 7], [6, 4]]
        assert Collate()(self.pictures)[0].shape == (2, 2, 6, 7)

    def test_crop(self) -> None:
        ramp = torch.arange(5.0)[:, None] * 10 + torch.arange(7.0)
        batch = [(ramp[None], 0), (torch.zeros(1, 3, 4), 1)]
        x, _ = Collate("crop")(batch)  # type: ignore[misc]
        assert torch.equal(x[0, 0], ramp[1:4, 1:5])
        x, _, sizes = Collate("crop", multiple=2, sizes=True)(batch)  # type: ignore[misc]
        assert torch.equal(x[0, 0], ramp[1:3, 1:5])
        assert sizes.tolist() == [[5, 7], [3, 4]]

    def test_equal(self) -> None:
        batch = [(torch.ones(2, 3, 4, dtype=torch.float16), True), (torch.zeros(2, 3, 4).half(), 0)]
        x, labels = Collate("equal")(batch)  # type: ignore[misc]
        assert x.dtype == torch.float16
        assert x[:, 0, 0, 0].tolist() == [1, 0]
        assert labels.tolist() == [1, 0]

    def test_it_survives_pickling(self) -> None:
        collate = Collate("crop", multiple=3, sizes=True)
        assert repr(pickle.loads(pickle.dumps(collate))) == repr(collate)

    @pytest.mark.parametrize(
        ("collate", "batch", "error", "message"),
        [
            (Collate("equal"), pictures, ValueError, "5 x 7 and 6 x 4 blocks: fit='pad' or fit='c"),
            (Collate("crop", multiple=5), pictures, ValueError, "5 x 5 blocks for multiple=5"),
            (Collate(), [], ValueError, "at least one picture, got none"),
            (
                Collate(),
                [(torch.ones(2, 3, 4), 0), (torch.ones(2, 3, 4).half(), 0)],
                TypeError,
                "one dtype, got torch.float32 and torch.float16",
            ),
            (
                Collate(),
                [(torch.ones(2, 3, 4), 0), (torch.ones(3, 3, 4), 0)],
                ValueError,
                "got 2 and 3",
            ),
            (Collate(), [torch.ones(2, 3, 4)], TypeError, "pairs of a tensor"),
            (Collate(), [(torch.ones(2, 3, 4), 0.5)], TypeError, "labels must be integers"),
            (Collate(), [(torch.ones(1, 3, 4), "cat")], TypeError, "integers, got 'cat'$"),
            (Collate(), [(torch.ones(3, 4), 0)], TypeError, r"got a float32 tensor \[3, 4\]$"),
        ],
    )
    def test_wrong_batches(
        self, collate: Collate, batch: list[object], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            collate(batch)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"fit": "stretch"}, ValueError, "fit must be one of 'pad', 'crop', 'equal'"),
            ({"multiple": 0}, ValueError, "multiple must be at least 1, got 0"),
            ({"multiple": 1.5}, TypeError, "multiple must be an integer, got 1.5$"),
            ({"fit": "equal", "multiple": 2}, ValueError, "multiple must be 1 with fit='equal'"),
            ({"sizes": 1}, TypeError, "sizes must be True or False"),
        ],
    )
    def test_wrong_arguments(
        self, arguments: dict[str, object], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            Collate(**arguments)  # type: ignore[arg-type]
