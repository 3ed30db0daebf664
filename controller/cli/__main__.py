"""``python -m controller.cli``, for processes that this one starts."""

from controller.cli import main

main()
