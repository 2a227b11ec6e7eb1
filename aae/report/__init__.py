"""What people look at: figures, the explorer, and the page that holds them."""
