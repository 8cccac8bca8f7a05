"""`python -m scenefuse` is the console script."""

from scenefuse.cli import main

if __name__ == "__main__":
    main()
