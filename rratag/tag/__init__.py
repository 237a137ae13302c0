"""Videos become rows of tags.

In: paths and a model. Out: predictions and the files that hold them. Imports model, features and below."""
