"""``python -m kd_seg.studies.mutations.guided``: the point-file readers under a coverage-guided fuzzer.

Needs ``pip install atheris``. It mutates what reaches new lines, so that it finds its way through a header by itself;
the seeds are those of the campaign. Stops at the first exception that is no refusal and leaves the input behind.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from kd_seg.core.errors import KdSegError

FOUR = (".bin", ".npy", ".pcd", ".ply")


def main() -> None:
    """Fuzz one reader for a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=FOUR)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("mutations"), help="folder of corpora and findings")
    arguments = parser.parse_args()
    import atheris

    # Kernels are compiled from their bytecode, which must stay as it is.
    with atheris.instrument_imports(include=["kd_seg.scans"], exclude=["kd_seg.scans.lzf", "kd_seg.scans.ply_lists"]):
        from kd_seg.studies.mutations.readers import READERS

    reader = next(each for each in READERS if each.name == arguments.reader)
    corpus = arguments.out / "guided" / arguments.reader[1:]
    corpus.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp())
    for number, content in enumerate(reader.seeds(scratch)):
        (corpus / f"seed_{number}").write_bytes(content)

    def one(content: bytes) -> None:
        try:
            reader.read(content, scratch / "input")
        except KdSegError as error:
            if not str(error).isprintable():
                raise AssertionError(f"no sentence: {error!r}") from None

    options = [
        f"-max_total_time={arguments.seconds}", "-max_len=8192", "-timeout=10", "-rss_limit_mb=2048",
        f"-artifact_prefix={arguments.out}/guided/{arguments.reader[1:]}_", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
