"""What all tests share: how many rounds hypothesis plays."""

import os

from hypothesis import settings

settings.register_profile("gateway", max_examples=int(os.environ.get("GATEWAY_TEST_ROUNDS", "50")), deadline=None)
settings.load_profile("gateway")
