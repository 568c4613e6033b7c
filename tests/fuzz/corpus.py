"""Packs and unpacks the corpus of the JPEG reader's fuzzer: jpeg.cpp says how it is used.

python tests/fuzz/corpus.py unpack FOLDER
python tests/fuzz/corpus.py pack FOLDER
"""

import hashlib
import sys
import zipfile
from pathlib import Path

CORPUS = Path(__file__).parent / "jpeg_corpus.zip"


def pack(folder: Path) -> None:
    """Sorted and without dates: the same files make the same archive."""
    files = {hashlib.sha1(p.read_bytes()).hexdigest()[:12]: p for p in folder.iterdir()}
    with zipfile.ZipFile(CORPUS, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, path in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)


def unpack(folder: Path) -> None:
    with zipfile.ZipFile(CORPUS) as archive:
        archive.extractall(folder)


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]))
