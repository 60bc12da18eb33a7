"""Open, crop and mask pictures for models, and read and write their metadata. Imports no model libraries."""
