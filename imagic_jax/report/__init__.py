"""Reports: strips of pictures, `result.json`, self-contained pages."""
