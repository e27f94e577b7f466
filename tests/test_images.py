"""Images made to fit: untouched where they fit, turned, transparent and sharp where they are encoded again."""

import io
import struct
import zlib

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageChops, ImageStat

from abstractllm.errors import ImageProcessingError
from abstractllm.files import ImageLimits, fitted
from abstractllm.files.images import FORMATS, image_type
from abstractllm.types import ImagePart

PLAIN = frozenset({"image/png", "image/jpeg"})
TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}


def picture(size=(60, 40), mode="RGB"):
    """Return a picture with a red left half and a smooth green."""
    image = Image.new("RGB", size)
    image.paste((200, 0, 0), (0, 0, size[0] // 2, size[1]))
    green = Image.linear_gradient("L").resize(size)
    return Image.merge("RGB", (image.getchannel("R"), green, image.getchannel("B"))).convert(mode)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def part_of(image, kind="PNG", **options):
    return ImagePart(encoded(image, kind, **options), TYPES[kind], "picture")


def opened(part):
    assert image_type(part.data) == part.media_type
    image = Image.open(io.BytesIO(part.data))
    image.load()
    return image


def difference(one, other):
    """Return how far two images differ in the mean, from 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean) / 3


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("limits", [ImageLimits(), ImageLimits(60, 10**6, FORMATS), ImageLimits(preferred_side=10)])
def test_an_image_that_fits_is_the_same(kind, limits):
    part = part_of(picture(), kind)
    assert fitted(part, limits) is part


def test_an_address_is_left_alone():
    part = ImagePart(b"", "", url="https://a.org/b.png")
    assert fitted(part, ImageLimits(1, 1, PLAIN)) is part


def test_a_wrong_media_type_is_corrected():
    data = encoded(picture(), "JPEG")
    assert fitted(ImagePart(data, "image/png"), ImageLimits()) == ImagePart(data, "image/jpeg")


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(TYPES)),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    side=st.none() | st.integers(1, 200),
    preferred=st.none() | st.integers(1, 200),
    formats=st.sampled_from([None, PLAIN, FORMATS]),
    limit=st.none() | st.integers(2000, 20_000),
)
def test_whatever_comes_out_keeps_the_limits(kind, size, side, preferred, formats, limit):
    limits = ImageLimits(side, limit, formats, preferred_side=preferred)
    made = fitted(part_of(picture(size), kind), limits)
    image = opened(made)
    assert side is None or max(image.size) <= side
    assert limit is None or len(made.data) <= limit
    assert formats is None or made.media_type in formats
    assert image.width <= size[0]
    assert image.height <= size[1]
    assert made.name == "picture"


def test_shape_and_colours_stay():
    original = picture((400, 200))
    for kind in TYPES:
        image = opened(fitted(part_of(original, kind), ImageLimits(100)))
        assert image.size == (100, 50)
        assert difference(image, original.resize((100, 50))) < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    part = part_of(picture((80, 40)), "JPEG", exif=exif, quality=95)
    image = opened(fitted(part, ImageLimits(40, formats=PLAIN)))
    assert image.getexif().get(0x0112) in (None, 1)
    assert image.size == ((40, 20) if orientation < 5 else (20, 40))
    red = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}[orientation]
    corners = {"left": (2, 10), "right": (37, 10), "top": (10, 2), "bottom": (10, 37)}
    assert image.convert("RGB").getpixel(corners[red])[0] > 150


def test_transparency_stays():
    image = picture(mode="RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    for kind in ("PNG", "WEBP"):
        made = opened(fitted(part_of(image, kind), ImageLimits(30, formats=PLAIN)))
        assert made.mode == "RGBA"
        assert made.getchannel("A").getextrema()[0] < 10 < 245 < made.getchannel("A").getextrema()[1]
    hole = Image.new("P", (8, 8), 1)
    hole.putpalette([0, 0, 0, 255, 255, 255])
    hole.putpixel((0, 0), 0)
    made = opened(fitted(part_of(hole, "GIF", transparency=0), ImageLimits(formats=PLAIN)))
    assert [made.getpixel(place)[3] for place in ((0, 0), (5, 5))] == [0, 255]


@pytest.mark.parametrize(
    ("kind", "options", "mode", "expected"),
    [
        ("JPEG", {}, "RGB", "image/jpeg"),
        ("JPEG", {}, "CMYK", "image/jpeg"),
        ("JPEG", {}, "L", "image/jpeg"),
        ("WEBP", {}, "RGB", "image/jpeg"),
        ("WEBP", {"lossless": True}, "RGB", "image/png"),
        ("PNG", {}, "RGB", "image/png"),
        ("PNG", {}, "1", "image/png"),
        ("PNG", {}, "P", "image/png"),
        ("GIF", {}, "P", "image/png"),
    ],
)
def test_photographs_stay_photographs_and_drawings_stay_sharp(kind, options, mode, expected):
    assert fitted(part_of(picture(mode=mode), kind, **options), ImageLimits(30, formats=PLAIN)).media_type == expected


def test_sixteen_bits_of_grey_are_not_cut_off():
    values = b"".join(struct.pack("<H", 256 * level) for level in range(0, 256, 4))
    grey = Image.frombytes("I;16", (64, 1), values)
    image = opened(fitted(part_of(grey), ImageLimits(63)))
    assert image.mode == "L"
    assert image.getextrema()[0] < 8
    assert image.getpixel((31, 0)) in range(110, 146)


def noise(size):
    return Image.effect_noise(size, 100).convert("RGB")


def test_too_many_bytes_make_a_photograph_and_then_a_smaller_one():
    part = part_of(noise((400, 400)))
    photograph = fitted(part, ImageLimits(bytes=150_000))
    assert photograph.media_type == "image/jpeg"
    assert opened(photograph).size == (400, 400)
    small = opened(fitted(part, ImageLimits(bytes=20_000)))
    assert 60 < small.width < 400
    sheer = noise((400, 400))
    sheer.putalpha(128)
    assert opened(fitted(part_of(sheer), ImageLimits(bytes=20_000, formats=FORMATS))).mode == "RGBA"


def test_an_image_that_is_encoded_again_becomes_as_large_as_is_looked_at():
    limits = ImageLimits(8000, 100_000, FORMATS, preferred_side=200)
    assert max(opened(fitted(part_of(noise((900, 600))), limits)).size) == 200


def test_what_cannot_be_made_small_enough_is_refused():
    with pytest.raises(ImageProcessingError, match="cannot be made to fit"):
        fitted(part_of(noise((100, 100))), ImageLimits(bytes=10))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_left_alone_or_becomes_its_first_frame(kind):
    first, second = picture(), picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    options = {"lossless": True} if kind == "WEBP" else {}
    part = part_of(first, kind, save_all=True, append_images=[second], **options)
    assert fitted(part, ImageLimits(formats=FORMATS)) is part
    for limits in (ImageLimits(animated=False), ImageLimits(formats=frozenset({"image/jpeg"}))):
        image = opened(fitted(part, limits))
        assert getattr(image, "n_frames", 1) == 1
        assert difference(image, first) < 10


def test_a_photograph_with_a_preview_is_no_animation():
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture((6, 4))])
    part = ImagePart(data, "image/jpeg", "picture")
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert fitted(part, ImageLimits(animated=False)) is part
    assert opened(fitted(part, ImageLimits(30))).size == (30, 20)


def bomb(side):
    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    pixels = zlib.compress(b"\0" * (side * (side // 8 + 1)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(ImageProcessingError, match="81,000,000 pixels"):
        fitted(ImagePart(bomb(9000), "image/png"), ImageLimits(100))


@pytest.mark.parametrize(
    ("part", "limits", "message"),
    [
        (ImagePart(b"no image", "image/png"), ImageLimits(), "neither PNG"),
        (ImagePart(b"no image", ""), ImageLimits(), "neither PNG"),
        (ImagePart(b"ftypheic", "image/heic"), ImageLimits(formats=FORMATS), "image/heic, which this service"),
        (ImagePart(b"ftypheic", "image/heic"), ImageLimits(bytes=3), "has 8 bytes, where 3"),
        (ImagePart(b"\x89PNG\r\n\x1a\n", "image/png"), ImageLimits(), "cannot be decoded"),
    ],
)
def test_what_is_no_image_is_refused(part, limits, message):
    with pytest.raises(ImageProcessingError, match=message):
        fitted(part, limits)


def test_a_format_that_is_not_known_here_goes_to_who_takes_it():
    part = ImagePart(b"ftypheic", "image/heic")
    assert fitted(part, ImageLimits(formats=FORMATS | {"image/heic"})) is part
    assert fitted(part, ImageLimits()) is part


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(TYPES)))
def test_no_damage_raises_another_error(data, kind):
    damaged = bytearray(encoded(picture(), kind))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        made = fitted(ImagePart(bytes(damaged), TYPES[kind]), ImageLimits(20, formats=PLAIN))
    except ImageProcessingError:
        return
    assert max(opened(made).size) <= 20
