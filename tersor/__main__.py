"""python -m tersor: the command line."""

from tersor.cli import main

main()
