"""Read data files: tables, arrays, images, and the data sets that libraries ship."""
