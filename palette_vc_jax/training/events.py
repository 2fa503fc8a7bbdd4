"""TensorBoard's event files, written without TensorBoard.

A file is a row of records, each a protocol buffer `Event` between its length and two checksums.
Field numbers are those of TensorFlow's event.proto and summary.proto; `python -m tensorboard.main
--logdir WORKDIR` reads them.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

VERSION = b"brain.Event:2"
RESTART = 1  # SessionLog.START: TensorBoard drops what earlier files have from this step on
VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5  # wire types
POLYNOMIAL = 0x82F63B78  # of CRC-32C, bits reversed


class EventFile:
    """One event file of a run; a run that resumes begins another."""

    def __init__(self, folder: Path, step: int):
        """Begin a file whose first step is `step`; later files win over earlier ones."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("ab")
        self._write(0, _field(3, BYTES, VERSION))
        self._write(step, _field(7, BYTES, _field(1, VARINT, RESTART)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers under their names."""
        entries = (
            _field(1, BYTES, name.encode()) + _field(2, FLOAT, value)
            for name, value in values.items()
        )
        self._write(step, _field(5, BYTES, b"".join(_field(1, BYTES, one) for one in entries)))

    def picture(self, step: int, name: str, png: bytes, height: int, width: int) -> None:
        """Write a PNG of `height` x `width` pixels."""
        image = _field(1, VARINT, height) + _field(2, VARINT, width) + _field(4, BYTES, png)
        entry = _field(1, BYTES, name.encode()) + _field(4, BYTES, image)
        self._write(step, _field(5, BYTES, _field(1, BYTES, entry)))

    def close(self) -> None:
        self._file.close()

    def _write(self, step: int, what: bytes) -> None:
        event = _field(1, DOUBLE, time.time()) + _field(2, VARINT, step) + what
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _field(number: int, wire: int, value: int | float | bytes) -> bytes:
    """Encode one field of a protocol buffer."""
    key = _varint(number << 3 | wire)
    if wire == VARINT:
        return key + _varint(value)
    if wire == BYTES:
        return key + _varint(len(value)) + value
    return key + struct.pack("<d" if wire == DOUBLE else "<f", value)


def _varint(value: int) -> bytes:
    """Encode a number from 0 in groups of 7 bits, the lowest first."""
    groups = bytearray()
    while value >= 128:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def _checksum(data: bytes) -> bytes:
    """Give the masked CRC-32C that record files hold."""
    crc = crc32c(data)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Give the CRC-32C (Castagnoli) of `data`, RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()
