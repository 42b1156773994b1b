"""What turns responses into images: NeuroAdapter, linear decoders, retrieval and the floors."""
