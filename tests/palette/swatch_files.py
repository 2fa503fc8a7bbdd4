"""Palette files as other programs write them, from sRGB codes."""

import struct


def ase(colors, model=b"RGB ", values=None) -> bytes:
    """Write an Adobe Swatch Exchange file with a group and names."""
    blocks = [struct.pack(">HI", 0xC001, 6) + struct.pack(">H", 2) + "x\0".encode("utf-16-be")]
    for index, color in enumerate(colors):
        name = f"color {index}\0"
        body = struct.pack(">H", len(name)) + name.encode("utf-16-be") + model
        floats = [code / 255 for code in color] if values is None else values[index]
        body += struct.pack(f">{len(floats)}f", *floats) + struct.pack(">H", 2)
        blocks.append(struct.pack(">HI", 1, len(body)) + body)
    blocks.append(struct.pack(">HI", 0xC002, 0))
    return b"ASEF" + struct.pack(">HHI", 1, 0, len(blocks)) + b"".join(blocks)


def aco(entries, names=False) -> bytes:
    """Write Photoshop swatches from (space, four codes); with names, version 2 alone."""
    data = struct.pack(">HH", 2 if names else 1, len(entries))
    for space, codes in entries:
        data += struct.pack(">H4H", space, *(code % 2**16 for code in codes))
        if names:
            data += struct.pack(">I", 2) + "x\0".encode("utf-16-be")
    return data


def gpl(colors) -> bytes:
    """Write a GIMP palette with a head, a comment and names."""
    lines = ["GIMP Palette", "Name: x", "Columns: 4", "# 1 2 3 is a comment"]
    lines += [f"{r:3d} {g:3d} {b:3d}\tcolor {r}" for r, g, b in colors]
    return "\n".join(lines).encode()


def hexes(colors) -> bytes:
    """Write rrggbb lines."""
    return "".join("{:02x}{:02X}{:02x}\r\n".format(*color) for color in colors).encode()
