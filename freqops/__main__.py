"""`python -m freqops` is `freqops`."""

import sys

from freqops.cli import main

if __name__ == "__main__":
    sys.exit(main())
