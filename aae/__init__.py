"""Adversarial autoencoders: an autoencoder whose codes follow a prior of the user's choice.

Makhzani et al., *Adversarial Autoencoders*, 2015, https://arxiv.org/abs/1511.05644.
"""

import atexit
import gc

# The garbage collector has a round for every 700 objects more, and the libraries that are imported
# make hundreds of thousands, which stay: its rounds would be a quarter of the time of the imports.
gc.set_threshold(10_000)
# The last round, at the end of the process, takes a second and frees what goes anyway.
atexit.register(gc.freeze)
