"""Draws the PNG files that `penstock demo` sends to its inbox: charts of the windows in forecast.rows.json.

    python3 devnet/models/charts.py

A PNG is written by hand, with Python's own zlib, so that nothing need be installed and the files are the same anywhere
where zlib is.
"""

import json
import struct
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "src" / "demo" / "files"
WIDTH, HEIGHT = 160, 90
# Which windows, by place in the file: far enough apart that the charts differ.
WINDOWS = [0, 120, 240, 360]
PAPER, GRID, INK = (255, 255, 255), (225, 228, 235), (24, 60, 140)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels):
    lines = b"".join(b"\0" + bytes(value for pixel in line for value in pixel) for line in pixels)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chart(prices):
    pixels = [[PAPER] * WIDTH for _ in range(HEIGHT)]
    for y in range(10, HEIGHT, 20):
        pixels[y] = [GRID] * WIDTH
    low, high = min(prices), max(prices)
    heights = [round((HEIGHT - 11) * (1 - (p - low) / (high - low))) + 5 for p in prices]
    step = (WIDTH - 11) / (len(prices) - 1)
    last = heights[0]
    for x in range(WIDTH - 10):
        place = min(x / step, len(prices) - 1.001)
        left = int(place)
        y = round(heights[left] + (heights[left + 1] - heights[left]) * (place - left))
        for filled in range(min(y, last), max(y, last) + 1):
            pixels[filled][x + 5] = INK
        last = y
    return pixels


def main():
    rows = json.loads((HERE / "forecast.rows.json").read_text())["rows"]
    OUT.mkdir(parents=True, exist_ok=True)
    for number, window in enumerate(WINDOWS, 1):
        prices = [float(text) for text in rows[window]["input"]]
        (OUT / f"chart-{number}.png").write_bytes(png(chart(prices)))


if __name__ == "__main__":
    main()
