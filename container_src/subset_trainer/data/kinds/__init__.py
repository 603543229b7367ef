"""One file a kind of data (images, tables, texts): what is learned of it, and how it becomes what a model takes."""
