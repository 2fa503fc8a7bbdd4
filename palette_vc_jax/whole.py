"""Write files whole or not at all."""

from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write beside the final name, then move there."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
