"""Collect the photos that the demo model may be trained on, and name their sources.

    python benchmarks/demo_photos.py --output runs/demo_photos

Takes from ../shared/photos the pictures with a free license of their own, and those of textbooks
that are under CC BY as a whole; leaves out share-alike works. Writes links to the files, and prints
the sources as a Markdown table for the model card.
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


def main(argv: list[str] | None = None) -> None:
    """Link the photos and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--output", type=Path, required=True, help="folder for the links")
    options = parser.parse_args(argv)
    with (options.photos / "INDEX.tsv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if is_allowed(row)]
    options.output.mkdir(parents=True, exist_ok=True)
    for row in rows:
        link = options.output / row["file"]
        if not link.exists():
            link.symlink_to((options.photos / row["file"]).resolve())
    counts = collections.Counter(row["source"] for row in rows)
    print("| source | photos |\n|---|---:|")
    for source, count in sorted(counts.items()):
        print(f"| {source} | {count} |")


if __name__ == "__main__":
    main()
