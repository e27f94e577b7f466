"""The small chat model that ships in the package; ``PATH`` is the folder with its files."""

from pathlib import Path

PATH: Path = Path(__file__).parent
