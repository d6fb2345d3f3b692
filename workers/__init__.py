"""The workers: inference, delivery and the relay that rings them."""
