"""The room place: where files are kept, on a disk or on an object store, behind one seam; what is said of addresses."""
