"""Titles and colours of the models in figures and on the page."""

TITLES = {
    "ae": "Autoencoder",
    "aae": "Adversarial autoencoder",
    "ae_mixture": "Autoencoder and mixture",
}
COLOURS = {"ae": "#d95f02", "aae": "#1f78b4"}
