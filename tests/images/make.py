#!/usr/bin/env python3
"""Write the image fixtures of tests/images.rs beside this file.

usage: pip install pillow==13.0.0 numpy safetensors; python make.py

Files that must decode come with an entry in expected.safetensors: the (H, W, 3) bytes of Pillow's
`convert("RGB")`, for names that begin with `exif_` after `ImageOps.exif_transpose`. Files in the list
BAD must be refused and have no entry. Deterministic, all files together below 400 KB.
"""
import io, pathlib, struct, zlib
import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
for old in HERE.iterdir():
    if old.name != "make.py":
        old.unlink()
EXPECTED = {}
W, H = 19, 13
y, x = np.mgrid[0:H, 0:W]
RGB = np.stack([x * 13, y * 19, (x * y * 3) % 256], -1).astype(np.uint8)
rng = np.random.default_rng(5)
ALPHA = rng.integers(0, 256, (H, W), dtype=np.uint8)
rgb = Image.fromarray(RGB)
rgba = Image.fromarray(np.dstack([RGB, ALPHA]))
grey = rgb.convert("L")
la = Image.merge("LA", [grey, Image.fromarray(ALPHA)])
# JPEG and lossy WebP get a smoother and larger picture
Y, X = np.mgrid[0:45, 0:61]
PHOTO = np.stack([127 + 100 * np.sin(X / 9.0), 127 + 100 * np.cos(Y / 7.0), X * 2 + Y * 2], -1).astype(np.uint8)
photo = Image.fromarray(PHOTO)


def put(name, data, good=True):
    (HERE / name).write_bytes(data)
    if good:
        im = Image.open(io.BytesIO(data))
        if name.startswith("exif_"):
            im = ImageOps.exif_transpose(im)
        EXPECTED[name] = np.asarray(im.convert("RGB")).copy()


def save(name, im, good=True, **kw):
    b = io.BytesIO()
    im.save(b, {"jpg": "jpeg", "tif": "tiff", "pgm": "ppm", "pbm": "ppm"}.get(name.rsplit(".")[-1], name.rsplit(".")[-1]), **kw)
    put(name, b.getvalue(), good)
    return b.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w, h, depth, color, rows, extra=b""):
    """A PNG from packed rows of bytes; `extra` goes before IDAT."""
    raw = b"".join(b"\0" + r for r in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, color, 0, 0, 0)) + extra
            + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def exif(orientation):
    e = Image.Exif()
    e[0x112] = orientation
    return e.tobytes()


# ---------------------------------------------------------------- PNG
save("rgb.png", rgb)
save("rgba.png", rgba)
save("grey.png", grey)
save("la.png", la)
save("bit1.png", grey.point(lambda v: 255 * (v > 90)).convert("1"))
save("one_pixel.png", Image.new("RGB", (1, 1), (10, 200, 77)))
for bits in (1, 2, 4, 8):
    save(f"palette{bits}.png", rgb.quantize(min(1 << bits, 200)), bits=bits)
p = rgb.quantize(30)
save("palette_trns.png", p, transparency=bytes([0, 128, 255] * 10))
save("grey_trns.png", grey, transparency=int(np.asarray(grey)[3, 3]))
save("rgb_trns.png", rgb, transparency=tuple(int(v) for v in RGB[3, 3]))
for bits in (2, 4):
    level = np.asarray(grey) >> (8 - bits)
    per = 8 // bits
    pad = np.pad(level, ((0, 0), (0, -W % per))).reshape(H, -1, per)
    packed = sum(pad[:, :, i].astype(int) << (8 - bits * (i + 1)) for i in range(per)).astype(np.uint8)
    put(f"grey{bits}.png", png(W, H, bits, 0, [r.tobytes() for r in packed]))
# no expectation from Pillow for 16 bits of grey (it clips): scaled and rounded
g16 = (np.arange(W * H).reshape(H, W) * 265 % 65536).astype(">u2")
g16[0, :4] = [300, 65535, 128, 129]
put("grey16.png", png(W, H, 16, 0, [r.tobytes() for r in g16]), good=False)
EXPECTED["grey16.png"] = np.repeat(((g16.astype(int) + 128) // 257).astype(np.uint8)[..., None], 3, 2)
c16 = rng.integers(0, 65536, (H, W, 3)).astype(">u2")
put("rgb16.png", png(W, H, 16, 2, [r.tobytes() for r in c16]))
a16 = rng.integers(0, 65536, (H, W, 4)).astype(">u2")
put("rgba16.png", png(W, H, 16, 6, [r.tobytes() for r in a16]))
rows = [r.tobytes() for r in RGB]
gama = chunk(b"gAMA", struct.pack(">I", 100000))
put("gamma.png", png(W, H, 8, 2, rows, gama))
icc = b"not a profile, and ignored" * 8
put("icc.png", png(W, H, 8, 2, rows, chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))))
# Adam7: seven small images, one after the other
passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
raw = b"".join(b"\0" + RGB[j, x0::dx].tobytes() for x0, y0, dx, dy in passes for j in range(y0, H, dy) if x0 < W)
put("interlaced.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 8, 2, 0, 0, 1))
    + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))
save("animated.png", rgb, save_all=True, append_images=[ImageOps.invert(rgb), rgb.rotate(180)], duration=50)
good = (HERE / "rgb.png").read_bytes()
put("bad_truncated.png", good[: len(good) // 2], good=False)
# headers only, with a little data: refused before any of it is read
idat = chunk(b"IDAT", zlib.compress(bytes(1 << 20), 9))
head = lambda w, h, d, c: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, d, c, 0, 0, 0)) + idat
put("bad_bomb.png", head(30000, 30000, 1, 0), good=False)
put("bad_huge.png", head(2**31 - 1, 2**31 - 1, 8, 6), good=False)
put("bad_zero_width.png", head(0, 5, 8, 2), good=False)
put("bad_zero_height.png", head(5, 0, 8, 2), good=False)
put("bad_long.png", head(2_000_000, 1, 1, 0), good=False)

# ---------------------------------------------------------------- JPEG
for name, kw in {"444": dict(subsampling=0), "422": dict(subsampling=1), "420": dict(subsampling=2),
                 "progressive": dict(subsampling=2, progressive=True),
                 "restart": dict(subsampling=2, restart_marker_rows=1)}.items():
    save(f"photo_{name}.jpg", photo, quality=90, **kw)
save("photo_grey.jpg", photo.convert("L"), quality=90)
cmyk = Image.merge("CMYK", [Image.fromarray(c) for c in
                            (PHOTO[..., 0], PHOTO[..., 1], PHOTO[..., 2], (X + Y).astype(np.uint8))])
adobe = save("photo_cmyk.jpg", cmyk, quality=95, subsampling=0)
# without Adobe's mark the ink is not inverted
at = adobe.index(b"\xff\xee")
put("photo_cmyk_plain.jpg", adobe[:at] + adobe[at + 2 + int.from_bytes(adobe[at + 2:at + 4], "big"):])
# the same bytes read as YCCK
mark = adobe.index(b"Adobe") + 11
put("photo_ycck.jpg", adobe[:mark] + b"\x02" + adobe[mark + 1:])
put("jpeg_named.png", (HERE / "photo_420.jpg").read_bytes())
j = (HERE / "photo_420.jpg").read_bytes()
scan = j.index(b"\xff\xda") + 14
put("bad_truncated.jpg", j[: (scan + len(j)) // 2], good=False)
put("bad_truncated_header.jpg", j[:scan // 2], good=False)
put("bad_no_end.jpg", j[:-2], good=False)
pj = (HERE / "photo_progressive.jpg").read_bytes()
put("bad_truncated_progressive.jpg", pj[: len(pj) * 3 // 4], good=False)
put("bad_arithmetic.jpg", j.replace(b"\xff\xc0", b"\xff\xc9", 1), good=False)

# ---------------------------------------------------------------- orientation
small = Image.fromarray(RGB[:5, :7])
for o in range(1, 9):
    save(f"exif_{o}.png", small, exif=exif(o))
    save(f"exif_{o}.jpg", photo.resize((24, 16)), quality=90, subsampling=0, exif=exif(o))
    save(f"exif_{o}.webp", small, lossless=True, exif=exif(o))
    save(f"exif_{o}.tif", small, tiffinfo={0x112: o})
for o in (0, 9):
    save(f"exif_{o}.jpg", photo.resize((24, 16)), quality=90, subsampling=0, exif=exif(o))
data = (HERE / "exif_6.png").read_bytes()
cut = data.index(b"eXIf") - 4
end = cut + 12 + int.from_bytes(data[cut:cut + 4], "big")
put("exif_after_pixels.png", data[:cut] + data[end:-12] + data[cut:end] + data[-12:])

# ---------------------------------------------------------------- GIF
save("still.gif", rgb)
save("interlaced.gif", rgb, interlace=1)
save("transparent.gif", p, transparency=3)
save("animated.gif", rgb, save_all=True, append_images=[ImageOps.invert(rgb), rgb.rotate(180)], duration=50)


def gif(canvas, place, pixels, palette, transparent=None, bits=2):
    """An uncompressed-style GIF: one frame of `pixels` at `place` = (left, top, width, height)."""
    out = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80 | (bits - 1), 0, 0) + palette
    if transparent is not None:
        out += b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    out += b"\x2c" + struct.pack("<HHHHB", *place, 0) + bytes([bits])
    acc = n = 0
    stream = bytearray()
    codes = []
    for p in pixels:  # a clear code before each pixel keeps the code size constant
        codes += [1 << bits, p]
    for c in codes + [(1 << bits) + 1]:
        acc |= c << n
        n += bits + 1
        while n >= 8:
            stream.append(acc & 255)
            acc >>= 8
            n -= 8
    stream.append(acc & 255)
    for i in range(0, len(stream), 255):
        part = stream[i:i + 255]
        out += bytes([len(part)]) + bytes(part)
    return out + b"\0\x3b"


pal = bytes([200, 10, 10, 10, 200, 10, 10, 10, 200, 90, 90, 90])
frame = [(i * 7 // 3) % 4 for i in range(20)]
put("small_frame.gif", gif((9, 8), (2, 3, 5, 4), frame, pal))
put("small_frame_transparent.gif", gif((9, 8), (2, 3, 5, 4), frame, pal, transparent=2))
put("large_frame.gif", gif((3, 3), (0, 0, 5, 4), frame, pal), good=False)
put("bad_large_frame.gif", gif((10, 10), (0, 0, 65535, 65535), frame, pal), good=False)
put("bad_large_canvas.gif", gif((65535, 65535), (0, 0, 5, 4), frame, pal), good=False)
g = (HERE / "still.gif").read_bytes()
put("bad_truncated.gif", g[: len(g) // 2], good=False)

# ---------------------------------------------------------------- WebP, BMP, TIFF, PNM
save("lossless.webp", rgb, lossless=True)
save("rgba.webp", rgba, lossless=True, exact=True)
save("lossy.webp", photo, quality=90)
save("animated.webp", rgb, save_all=True, append_images=[ImageOps.invert(rgb), rgb.rotate(180)], lossless=True, duration=50)
wp = (HERE / "lossless.webp").read_bytes()
put("bad_truncated.webp", wp[: len(wp) // 2], good=False)
save("rgb.bmp", rgb)
save("palette.bmp", rgb.quantize(100))
save("bit1.bmp", grey.convert("1"))
save("rgba.bmp", rgba)
for name, im, kw in (("rgb", rgb, {}), ("lzw", rgb, dict(compression="tiff_lzw")), ("deflate", rgb, dict(compression="tiff_adobe_deflate")),
                     ("packbits", rgb, dict(compression="packbits")), ("grey", grey, {}), ("rgba", rgba, {}),
                     ("bit1", grey.convert("1"), {}), ("cmyk", cmyk, dict(compression="tiff_lzw"))):
    save(f"{name}.tif", im, **kw)
save("pages.tif", rgb, save_all=True, append_images=[ImageOps.invert(rgb)])
save("bad_float.tif", Image.fromarray((np.asarray(grey) / 255).astype(np.float32)), good=False)
t = (HERE / "rgb.tif").read_bytes()
put("bad_truncated.tif", t[: len(t) // 2], good=False)
save("rgb.ppm", rgb)
save("grey.pgm", grey)
save("bit1.pbm", grey.convert("1"))
put("ascii.ppm", f"P3\n# comment\n{W} {H}\n255\n".encode() + " ".join(map(str, RGB.ravel())).encode() + b"\n")
put("maxval15.pgm", f"P2 {W} {H} 15\n".encode() + " ".join(map(str, np.asarray(grey).ravel() >> 4)).encode() + b"\n")
put("bad_truncated.ppm", (HERE / "rgb.ppm").read_bytes()[:100], good=False)

save_file(EXPECTED, HERE / "expected.safetensors")
print(sum(f.stat().st_size for f in HERE.iterdir()), "bytes in", len(list(HERE.iterdir())), "files")
