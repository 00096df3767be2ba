"""What repositories hold, in SQL: links to blobs, manifests, tags, and what is listed of them."""
