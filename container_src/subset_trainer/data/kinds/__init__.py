"""The kinds of data (images, tables, texts), one file each: fitting, encoding, and everything that depends on them."""
