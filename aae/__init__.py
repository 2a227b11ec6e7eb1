"""Adversarial autoencoders: an autoencoder whose codes follow a prior of the user's choice.

Makhzani et al., *Adversarial Autoencoders*, 2015, https://arxiv.org/abs/1511.05644.
"""
