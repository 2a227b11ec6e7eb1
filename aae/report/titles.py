"""What the models are called and coloured in figures and on the page."""

TITLES = {"ae": "Autoencoder", "aae": "Adversarial autoencoder"}
COLOURS = {"ae": "#d95f02", "aae": "#1f78b4"}
