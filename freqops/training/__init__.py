"""Training of frequency networks on folders of pictures, in one process or many."""
