"""`python -m dist_hdnn`: the same as the `dist-hdnn` command."""

import sys

from dist_hdnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
