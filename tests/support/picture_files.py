"""Files of pictures that Pillow does not write: any PNG header, any TIFF tags."""

import struct
import zlib

import numpy as np


def chunk(kind, body):
    """A chunk of a PNG, with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, rows, depth=8, colour_type=0, extra=b""):
    """A PNG of `rows`, bytes each, `depth` bits per channel; `extra` chunks stand before the pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def deep_png(pixels):
    """A PNG of 16 bits per channel, from (H, W, 1..4) uint16."""
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    return png(pixels.shape[1], [row.astype(">u2").tobytes() for row in pixels], 16, colour_type)


def tiff(*pages, order="<"):
    """A TIFF of `pages`, each (tags, strips): {tag: number or tuple of numbers}, and bytes per strip."""
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4  # where the place of the next page is written
    for tags, strips in pages:
        places = []
        for strip in strips:
            places.append(len(out))
            out += strip + bytes(len(strip) % 2)
        tags = {**tags, 273: tuple(places), 279: tuple(map(len, strips))}
        entries = b""
        for tag, value in sorted(tags.items()):
            values = value if isinstance(value, tuple) else (value,)
            kind, letter = (3, "H") if max(values) < 65536 else (4, "I")
            body = struct.pack(f"{order}{len(values)}{letter}", *values)
            if len(body) > 4:
                place = len(out)
                out += body
                body = struct.pack(f"{order}I", place)
            entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
        out += bytes(len(out) % 2)
        out[link : link + 4] = struct.pack(f"{order}I", len(out))
        out += struct.pack(f"{order}H", len(tags)) + entries
        link = len(out)
        out += bytes(4)
    return bytes(out)


def tiff_of(pixels, *, photometric=None, planar=False, order="<", **tags):
    """A TIFF of an array (H, W[, bands]) of any type; `tags` as `tag_338=0`."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    height, width, bands = pixels.shape
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    bits = 8 * pixels.dtype.itemsize
    page = {256: width, 257: height, 258: (bits,) * bands, 259: 1, 262: photometric, 277: bands, 278: height}
    page |= {284: 2 if planar else 1, 339: (kind,) * bands}
    page[262] = photometric if photometric is not None else 2 if bands in (3, 4) else 1
    page |= {int(name.removeprefix("tag_")): value for name, value in tags.items()}
    typed = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [typed[..., band].tobytes() for band in range(bands)] if planar else [typed.tobytes()]
    return tiff((page, strips), order=order)


def damaged(content, place, value):
    """`content` with one byte changed, by its share of the length."""
    changed = bytearray(content)
    changed[int(place * (len(changed) - 1))] = value
    return bytes(changed)


def noise(height, width, bands, dtype=np.uint8, seed=0):
    """Pixels, (H, W, bands), of the whole range of `dtype`."""
    most = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, most, (height, width, bands), dtype, endpoint=True)
