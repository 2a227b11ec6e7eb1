"""The report: figures, the explorer, and the page that contains them."""
