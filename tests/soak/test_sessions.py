"""Eight processes that write 1,000 turns each to one store, while one of them is killed again and again."""

from __future__ import annotations

from pathlib import Path

from ..session.writers import Programs, check_no_turn_is_lost


def test_no_turn_is_lost(package: Path, tmp_path: Path) -> None:
    with Programs(package) as begin:
        check_no_turn_is_lost(begin, tmp_path / "s.db", turns=1000, kills=12)
