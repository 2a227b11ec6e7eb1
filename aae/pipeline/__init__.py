"""What surrounds the work of a stage: arguments, parameters, errors, tracking and snapshots."""

import atexit
import gc

# The collector would run for every 700 new objects, and the libraries that a stage imports create
# hundreds of thousands that stay. Its last run, at exit, takes up to a second and frees what the
# end of the process frees anyway. Stages import this part first, so it holds for all they import.
gc.set_threshold(10_000)
atexit.register(gc.freeze)
