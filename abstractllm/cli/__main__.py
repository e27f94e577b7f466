"""`python -m abstractllm.cli` is the command `abstractllm`."""

from abstractllm.cli import main

main()
