"""Import the package and print the seconds that took."""

import time

start = time.perf_counter()
import buildkit_session  # noqa: E402, F401 - this is what is measured

seconds = time.perf_counter() - start

import json  # noqa: E402 - later: the package uses it too

print(json.dumps({"seconds": seconds}))
