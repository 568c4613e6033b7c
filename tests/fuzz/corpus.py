"""Packs and unpacks the corpus of the JPEG reader's fuzzer: README.md says how it is used.

python tests/fuzz/corpus.py unpack FOLDER
python tests/fuzz/corpus.py pack FOLDER
"""

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path

CORPUS = Path(__file__).parent / "jpeg_corpus.tar.gz"


def pack(folder: Path) -> None:
    """Named by content, sorted, without dates: the same files make the same archive."""
    contents = {hashlib.sha1(p.read_bytes()).hexdigest()[:12]: p for p in folder.iterdir()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, path in sorted(contents.items()):
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            archive.addfile(entry, io.BytesIO(path.read_bytes()))
    CORPUS.write_bytes(gzip.compress(packed.getvalue(), 9, mtime=0))


def unpack(folder: Path) -> None:
    with tarfile.open(CORPUS) as archive:
        archive.extractall(folder, filter="data")


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]))
