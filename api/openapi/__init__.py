"""What the API says of itself: handlers are described where they stand, and the document is put together from them."""
