"""How hard hypothesis tries where bytes come from strangers: PALUKU_FUZZ_EXAMPLES=20000 is the deep run."""

import os

import hypothesis

EXAMPLES = int(os.environ.get("PALUKU_FUZZ_EXAMPLES", "100"))

deep = hypothesis.settings(deadline=None, max_examples=EXAMPLES)
