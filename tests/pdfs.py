"""PDFs as small as they come, for tests."""

from __future__ import annotations

import io
from collections.abc import Sequence


def pdf(*pages: str | None) -> bytes:
    """Return a PDF with a page for each text, in ASCII; one for None has a line drawn and no text, as a scan has."""
    drawn = ["0 0 m 9 9 l S" if text is None else f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET" for text in pages]
    first = 4
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(len(pages)))
    bodies = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, stream in enumerate(drawn):
        bodies.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Resources << /Font << /F1 3 0 R >> >>"
            f" /Contents {first + 2 * number + 1} 0 R >>"
        )
        bodies.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    return _file([body.encode("ascii") for body in bodies])


def packed(stream: bytes, form: bytes = b"") -> bytes:
    """Return a PDF of one page, whose content was compressed to `stream` with zlib; `/Fm Do` draws what `form` is."""
    resources = b"/Resources << /Font << /F1 5 0 R >> /XObject << /Fm 6 0 R >> >>"
    squeezed = b"/Filter /FlateDecode >>\nstream\n%s\nendstream"
    return _file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R %s >>" % resources,
            b"<< /Length %d " % len(stream) + squeezed % stream,
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
            b"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] %s /Length %d " % (resources, len(form))
            + squeezed % form,
        ]
    )


def _file(bodies: Sequence[bytes]) -> bytes:
    buffer = io.BytesIO()
    buffer.write(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(bodies, 1):
        places.append(buffer.tell())
        buffer.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = buffer.tell()
    rows = b"".join(b"%010d 00000 n \n" % place for place in places)
    buffer.write(b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(bodies) + 1, rows))
    buffer.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(bodies) + 1, start))
    return buffer.getvalue()
