"""What is compared with the counts: terms, predicted counts, statistics without cancellation."""
