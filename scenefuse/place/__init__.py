"""The room place: files on a disk or an object store behind one interface, and how addresses are shown."""
