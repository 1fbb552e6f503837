"""`python -m aiki_server`."""

import sys

from aiki_server.main import main

if __name__ == "__main__":
    sys.exit(main())
