"""``python -m drlib.series.cli`` is ``drlib``."""

from drlib.series.cli import main

if __name__ == "__main__":
    main()
