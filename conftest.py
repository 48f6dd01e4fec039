"""Packages that share their name with a folder here, imported before pytest can take the folder for the package.

With `--import-mode=importlib` a test in `stack/tests` is called `stack.tests.test_…`, and pytest puts the folder
`stack/` into `sys.modules` as its parent unless something of that name is there already.
"""

import chassis  # noqa: F401
import stack  # noqa: F401

pytest_plugins = ["tests.promises"]
