"""From responses to images: pure functions over one pytree of networks, and the class before them."""
