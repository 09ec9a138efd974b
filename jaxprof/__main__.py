"""``python -m jaxprof`` is the command line."""

from jaxprof.cli import main

if __name__ == "__main__":
    main()
