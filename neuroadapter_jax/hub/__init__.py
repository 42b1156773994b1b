"""The Hugging Face Hub: models fetched by name, and models published with a card.

`snapshots` fetches, `licences` knows what the Hub calls them, `cards` writes a model card, `kinds`
says what an adapter and a brain encoder consist of, and `publishing` sends them.
"""
