"""Read what XLA's compiler writes of a program before it generates code: memory and traffic.

Code generation for a full-size step takes over an hour and 24 GiB on two cores; where every buffer
lies, and so whether the program fits, is settled after a few minutes.
"""

import math
import re
from typing import NamedTuple

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
# What gives no value of its own: names, parts and ends of others.
NAMES = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "opt-barrier",
}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z\-]+)\((.*)$")
# An array, such as `bf16[14,16]{1,0:T(8,128)(2,1)S(1)}`; S(n) is a memory other than the main one.
_ARRAY = re.compile(r"([a-z]+)(\d+)?\[([\d,]*)\](\{[^}]*\})?")
# What a GPU library may use beside its results, and may not: how much it touches is not known.
_WORKSPACE = re.compile(r"[us]8\[\d+\]\{0\}")
_CALLED = {kind: re.compile(rf"{kind}=%?([\w.\-]+)") for kind in ("body", "condition", "calls")}
_ROUNDS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LIMIT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_ALLOCATION = re.compile(r"^allocation \d+: size (\d+), (.*)$", re.MULTILINE)


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    result: str  # its type
    kind: str
    rest: str  # operands and attributes


class Program(NamedTuple):
    """A compiled program as text has it: its computations, and the one it begins with."""

    computations: dict[str, list[Instruction]]
    texts: dict[str, str]
    entry: str


def allocations(text: str) -> tuple[int, int, int]:
    """Sum a buffer assignment's bytes of arguments, temporaries, and results that are neither.

    Only the main memory counts; results that take an argument's place are that argument.
    """
    sums = {"arguments": 0, "temporaries": 0, "results": 0}
    for size, about in _ALLOCATION.findall(text):
        if "color" in about or "thread-local" in about:
            continue
        if "parameter" in about:
            sums["arguments"] += int(size)
        elif "maybe-live-out" in about:
            sums["results"] += int(size)
        else:
            sums["temporaries"] += int(size)
    return tuple(sums.values())


def parse(text: str) -> Program:
    """Split a program's text into computations."""
    lines: dict[str, list[str]] = {}
    current, entry = None, ""
    for line in text.splitlines():
        begins = _COMPUTATION.match(line)
        if begins:
            current = begins.group(1)
            lines[current] = []
            entry = current if line.startswith("ENTRY") else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            lines[current].append(line)
    found = {
        name: [Instruction(*m.groups()) for m in map(_INSTRUCTION.match, body) if m]
        for name, body in lines.items()
    }
    return Program(found, {name: "\n".join(body) for name, body in lines.items()}, entry)


def executed(program: Program) -> list[tuple[Instruction, int]]:
    """List what runs, and how often: loops' bodies as many times as they go round."""
    found: list[tuple[Instruction, int]] = []

    def visit(name: str, times: int) -> None:
        for instruction in program.computations[name]:
            found.append((instruction, times))
            if instruction.kind == "while":
                body, condition = (
                    _CALLED[part].search(instruction.rest).group(1)
                    for part in ("body", "condition")
                )
                known = _ROUNDS.findall(instruction.rest)
                known = known or _LIMIT.findall(program.texts[condition])
                rounds = max(map(int, known), default=1)
                visit(body, times * max(rounds, 1))

    visit(program.entry, 1)
    return found


def collectives(program: Program) -> dict[str, tuple[int, int]]:
    """Count collectives and the bytes of their results."""
    found = dict.fromkeys(COLLECTIVES, (0, 0))
    running = executed(program)
    for outer, times in list(running):
        # A collective that runs beside other work lies within what starts it: a fusion for TPUs,
        # an `async-start` for GPUs.
        if outer.kind == "async-start" or outer.name.startswith("async-collective-start"):
            called = _CALLED["calls"].search(outer.rest).group(1)
            running += [(instruction, times) for instruction in program.computations[called]]
    for instruction, times in running:
        kind = instruction.kind.removesuffix("-start")
        if kind not in COLLECTIVES:
            continue
        sizes = [size for size, _ in _arrays(instruction.result)]
        if instruction.kind != kind and kind != "all-reduce":
            # It gives its operands first, then its results, then perhaps contexts.
            sizes = sizes[: 2 * (len(sizes) // 2)][len(sizes) // 2 :][: len(sizes) // 2]
        count, size = found[kind]
        found[kind] = count + times, size + times * sum(sizes)
    return found


def traffic(program: Program) -> float:
    """Estimate the bytes moved to and from the main memory.

    Each value that lies there is taken to be written once and read once.
    """
    total = 0.0
    for instruction, times in executed(program):
        if instruction.kind in NAMES or instruction.kind.endswith("-done"):
            continue
        result = instruction.result
        if instruction.kind == "custom-call" and result.startswith("("):
            result = _WORKSPACE.sub("", result)
        size = sum(size for size, main in _arrays(result) if main)
        # A loop that fills a buffer part by part writes all of it once.
        total += 2.0 * size * (1 if "dynamic-update-slice" in instruction.name else times)
    return total


def _arrays(result: str) -> list[tuple[int, bool]]:
    """Return the bytes of a type's arrays, and whether each is in the main memory."""
    found = []
    for _, bits, shape, layout in _ARRAY.findall(result):
        length = math.prod(int(side) for side in shape.split(",") if side)
        size = int(bits) // 8 if bits else 1  # pred has none
        found.append((size * length, "S(" not in layout))
    return found
