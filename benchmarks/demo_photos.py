"""Collect the photos that the demo model may be trained on, and name the sources of all its data.

    python benchmarks/demo_photos.py --output runs/demo_photos \\
      --sources palette_vc_jax/demo/SOURCES.tsv

Takes from ../shared/photos the pictures with a free license of their own, and those of textbooks
that are under CC BY as a whole; leaves out share-alike works. Writes links to the files. Writes the
source, license and credit of every photo and every training clip to SOURCES, and prints the photos'
sources as a Markdown table for the model card.
"""

import argparse
import collections
import csv
import re
from pathlib import Path

SHARE_ALIKE = re.compile(r"BY[- ]?SA|share", re.IGNORECASE)
BOOK = re.compile(r"OpenStax, CC BY [34]\.0")


def is_allowed(row: dict[str, str]) -> bool:
    """Return whether a row of the index may be trained on."""
    license_ = row["license"]
    own = row["tier"] == "A" or BOOK.search(license_)
    return bool(own) and not SHARE_ALIKE.search(license_)


def read_index(path: Path) -> list[dict[str, str]]:
    """Read the table of a folder of photos or clips."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def write_sources(path: Path, photos: list[dict[str, str]], clips: list[dict[str, str]]) -> None:
    """Write where each photo and clip comes from: repository, version, path, license and credit."""
    rows = [("photo", row["source"], row["version"], row["path"], row["license"]) for row in photos]
    rows += [("clip", row["source"], row["commit"], row["path"], row["license"]) for row in clips]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("kind", "repository", "version", "path", "license and credit"))
        writer.writerows(rows)


def main(argv: list[str] | None = None) -> None:
    """Link the photos and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--footage", type=Path, default=Path("../shared/footage"))
    parser.add_argument("--output", type=Path, required=True, help="folder for the links")
    parser.add_argument("--sources", type=Path, help="table of the sources to write")
    options = parser.parse_args(argv)
    rows = [row for row in read_index(options.photos / "INDEX.tsv") if is_allowed(row)]
    options.output.mkdir(parents=True, exist_ok=True)
    for row in rows:
        link = options.output / row["file"]
        if not link.exists():
            link.symlink_to((options.photos / row["file"]).resolve())
    if options.sources:
        clips = read_index(options.footage / "INDEX.tsv")
        write_sources(options.sources, rows, [row for row in clips if row["split"] == "train"])
    counts = collections.Counter(row["source"] for row in rows)
    print("| source | photos |\n|---|---:|")
    for source, count in sorted(counts.items()):
        print(f"| {source} | {count} |")


if __name__ == "__main__":
    main()
