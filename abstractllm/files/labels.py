"""The names that files are shown by: short, no two of them equal. Looks at no disk."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from abstractllm.errors import FileProcessingError


def labels_of(files: Sequence[Path | str]) -> list[str]:
    """Return a name to show for each path or address: its last part, with as many folders as tell paths apart."""
    places = [None if isinstance(file, str) else Path(os.path.abspath(file)) for file in files]
    labels: list[str] = []
    for file, place in zip(files, places, strict=True):
        rivals = {other for other in places if other and place and other.name == place.name and other != place}
        label = _url_label(str(file)) if place is None else _short(place, rivals)
        labels.append(_free(label, labels))
    return labels


def url_path(url: str) -> str:
    """Return the path of an address, without what is quoted in it. Raises FileProcessingError for a malformed one."""
    try:
        return unquote(urlsplit(url).path)
    except ValueError as error:
        raise FileProcessingError(f"The URL {url!r} is not valid ({error}); correct it.", path=url) from error


def _url_label(url: str) -> str:
    return _printable(url_path(url).rstrip("/").rpartition("/")[2] or urlsplit(url).hostname or url)


def _free(label: str, taken: Sequence[str]) -> str:
    numbered = (f"{label} ({number})" for number in itertools.count(2))
    return next(one for one in itertools.chain([label], numbered) if one not in taken)


def _short(place: Path, rivals: Iterable[Path]) -> str:
    depth = 1
    while depth < len(place.parts) and any(other.parts[-depth:] == place.parts[-depth:] for other in rivals):
        depth += 1
    return _printable("/".join(place.parts[-depth:]))


def _printable(label: str) -> str:
    return label if label.isprintable() else ascii(label)[1:-1]
