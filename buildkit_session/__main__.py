"""``python -m buildkit_session`` is ``buildkit-session``."""

import sys

from buildkit_session.cli import main

sys.exit(main())
